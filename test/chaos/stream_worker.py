"""The streams that are stopped and killed: count each input in a table, and echo it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from service_scaffold import service, streams
from service_scaffold.streams.agent import Agent
from service_scaffold.streams.topology import Topology


def declare(flow: Topology, config: dict[str, Any]) -> None:
    """Declare the agent: `{topic}` in, `{topic}.out` out, table `seen` by number."""
    topic, ours = config['topic'], config['declared']
    numbers = flow.topic(topic, value_type=int, partitions=4 if ours else None)
    echo = flow.topic(f'{topic}.out', value_type=int, partitions=3 if ours else None)
    seen = flow.Table('seen', default=int, key_type=str)

    @flow.agent(numbers, sink=[echo], concurrency=config['concurrency'])
    async def count(stream):  # type: ignore[no-untyped-def]
        async for number in stream:
            if config['work_s']:
                await asyncio.sleep(config['work_s'])
            if number == config['hangs_at']:
                await asyncio.get_running_loop().create_future()
            if number == config['blocks_at'] and _is_first(config['blocked']):
                time.sleep(config['blocks_s'])  # noqa: ASYNC251 - what users do by mistake
            seen[str(number)] += 1
            yield number


def declare_windows(flow: Topology, topic: str) -> None:
    """Declare sums by key and second, sent to `{topic}.closed` when a second has passed."""
    numbers = flow.topic(topic, value_type=int, partitions=4)
    closed = flow.topic(f'{topic}.closed', partitions=3)

    async def on_close(key: str, window: streams.Window, value: int) -> None:
        await closed.send(key=key, value=[key, window.start, value])

    sums = flow.Table(
        'sums',
        default=int,
        window=streams.TumblingWindow(1.0, expires=2.0, grace=0.5),
        on_window_close=on_close,
        on_late=f'{topic}.late',
    )

    @flow.agent(numbers, concurrency=3)
    async def add(stream):  # type: ignore[no-untyped-def]
        async for event in stream.events():
            sums[event.key] += event.value


def declare_join(flow: Topology, topic: str) -> None:
    """Declare the join of `{topic}` and `{topic}.right`, sent to `{topic}.out` as lists."""
    left = flow.topic(topic, value_type=int, partitions=4)
    right = flow.topic(f'{topic}.right', value_type=int, partitions=4)
    out = flow.topic(f'{topic}.out', partitions=3)
    pairs = left.stream().join(right.stream(), within=1.0, how='outer', grace=1800, name='pairs')

    @flow.agent(pairs, sink=[out])
    async def pass_on(stream):  # type: ignore[no-untyped-def]
        async for pair in stream:
            yield list(pair)


def declare_asked(flow: Topology, work_s: float) -> Agent:
    """Declare the agent `double`, which takes its time to answer."""

    @flow.agent()
    async def double(stream):  # type: ignore[no-untyped-def]
        async for number in stream:
            await asyncio.sleep(work_s)
            yield number * 2

    return double


def declare_routed(flow: Topology, topic: str, door: Path | None) -> streams.Table:
    """Declare counts by key; none is recovered before there is a file `door`."""
    numbers = flow.topic(topic, value_type=int, partitions=4)
    counts = flow.Table('counts', default=int)

    @flow.agent(numbers)
    async def count(stream):  # type: ignore[no-untyped-def]
        async for key, _ in stream.items():
            counts[key] += 1

    @counts.on_recover
    async def wait() -> None:
        while door is not None and not door.exists():  # noqa: ASYNC110, ASYNC240 - another process
            await asyncio.sleep(0.05)

    return counts


def add_routes(app: web.Application, counts: streams.Table) -> None:
    """Add `/counts/{key}`, which the owner answers, and `/stale/{key}`, which a copy may."""

    async def show(request: web.Request) -> web.Response:
        key = request.match_info['key']
        return web.json_response({'count': counts[key], 'port': app['config']['port']})

    for path, stale in (('/counts/{key}', False), ('/stale/{key}', True)):
        route = streams.table_route(counts, match_info='key', stale=stale)
        app.router.add_get(path, route(show))


def _is_first(mark: Path) -> bool:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def main() -> None:
    """Run until a signal ends it."""
    parser = service.create_parser('stream-worker')
    parser.add_argument('--topic', required=True, help='topic to read')
    parser.add_argument('--work-s', type=float, default=0.0)
    parser.add_argument('--concurrency', type=int, default=1)
    parser.add_argument('--declared', type=int, default=1, help='0: topics are made by others')
    parser.add_argument('--hangs-at', type=int, default=-1, help='number that is never finished')
    parser.add_argument('--blocks-at', type=int, default=-1, help='number that blocks the loop')
    parser.add_argument('--blocked', type=Path, help='made by whoever blocks: nobody does again')
    parser.add_argument('--blocks-s', type=float, default=0.0, help='and for how long')
    parser.add_argument('--windows', type=int, default=0, help='1: sums in windows, and no echo')
    parser.add_argument('--joins', type=int, default=0, help='1: joins two topics, and no echo')
    parser.add_argument('--routed', type=int, default=0, help='1: counts, asked for over HTTP')
    parser.add_argument('--door', type=Path, help='without this file nothing is recovered')
    parser.add_argument('--asked', type=int, default=0, help='1: answers questions, and no echo')
    app = service.create_app(parser=parser)
    config = app['config']
    streams.setup(app)
    flow = streams.get_streams(app)
    if config['windows']:
        declare_windows(flow, config['topic'])
    elif config['joins']:
        declare_join(flow, config['topic'])
    elif config['routed']:
        add_routes(app, declare_routed(flow, config['topic'], config['door']))
    elif config['asked']:
        declare_asked(flow, config['work_s'])
    else:
        declare(flow, config)

    async def show(request: web.Request) -> web.Response:
        return web.json_response(dict(flow.tables['seen'].items()))

    app.router.add_get('/seen', show)
    service.furnish(app)
    service.run(app)


if __name__ == '__main__':
    main()
