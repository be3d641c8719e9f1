"""The streams that are stopped and killed: count each input in a table, and echo it."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

from aiohttp import web

from service_scaffold import features, service, streams
from service_scaffold.streams.feature import settings_of
from service_scaffold.streams.topology import Topology


def declare(flow: Topology, topic: str, work_s: float) -> None:
    """Declare the agent: `{topic}` in, `{topic}.out` out, table `seen` by number."""
    numbers = flow.topic(topic, value_type=int, partitions=4)
    echo = flow.topic(f'{topic}.out', value_type=int, partitions=3)
    seen = flow.Table('seen', default=int, key_type=str)

    @flow.agent(numbers, sink=[echo])
    async def count(stream):  # type: ignore[no-untyped-def]
        async for number in stream:
            if work_s:
                await asyncio.sleep(work_s)
            seen[str(number)] += 1
            yield number


def main() -> None:
    """Run until a signal ends it."""
    parser = service.create_parser('stream-worker')
    parser.add_argument('--topic', required=True, help='topic to read')
    parser.add_argument('--guarantee', default='at_least_once')
    parser.add_argument('--store', default='memory://')
    parser.add_argument('--directory', default='data')
    parser.add_argument('--work-s', type=float, default=0.0)
    app = service.create_app(parser=parser)
    config = app['config']
    settings = dataclasses.replace(
        settings_of(config),
        guarantee=config['guarantee'],
        store=config['store'],
        directory=Path(config['directory']),
    )
    streams.setup(app, settings)
    flow = features.get(app, Topology)
    declare(flow, config['topic'], config['work_s'])

    async def show(request: web.Request) -> web.Response:
        return web.json_response(dict(flow.tables['seen'].items()))

    app.router.add_get('/seen', show)
    service.furnish(app)
    service.run(app)


if __name__ == '__main__':
    main()
