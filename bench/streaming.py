"""Our side's application with streams."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from bench.meter import Meter, arguments
from bench.service import Reading
from service_scaffold import features, service, streams
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topic import Guarantee
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.worker import Worker

COMMIT_S = 0.5
EXACTLY_ONCE_COMMIT_S = 0.2
LIMIT_S = 120

Declare = Callable[[Topology], object]


@asynccontextmanager
async def started(
    url: str, id: str, declare: Declare, guarantee: Guarantee = 'at_least_once'
) -> AsyncIterator[Worker]:
    """Run a service with streams, and stores on a disk."""
    app = service.create_app(
        'bench', raw_args=['--eventbus-url', url, '--log-level', 'error', '--host', '127.0.0.1']
    )
    with tempfile.TemporaryDirectory() as directory:
        exactly = guarantee == 'exactly_once'
        streams.setup(
            app,
            StreamSettings(
                id,
                guarantee=guarantee,
                store='sqlite://',
                directory=Path(directory),
                checkpoint_s=EXACTLY_ONCE_COMMIT_S if exactly else COMMIT_S,
            ),
        )
        declare(streams.get_streams(app))
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            yield features.get(app, Worker)
        finally:
            await runner.cleanup()


def handle(guarantee: Guarantee = 'at_least_once', *, count: bool = False) -> None:
    """Measure an agent; with `count` it counts by key in a table."""
    url, total, name = arguments()

    async def main() -> None:
        meter = Meter(total)

        def declare(app: Topology) -> None:
            topic = app.topic(name, key_type=str, value_type=Reading)
            counts = app.Table('counts', default=int, key_type=str, value_type=int)

            if count:

                @app.agent(topic)
                async def counting(stream):  # type: ignore[no-untyped-def]
                    async for key, _ in stream.items():
                        counts[key] += 1
                        meter.hit()
            else:

                @app.agent(topic)
                async def hitting(stream):  # type: ignore[no-untyped-def]
                    async for _ in stream:
                        meter.hit()

        async with started(url, name, declare, guarantee), asyncio.timeout(LIMIT_S):
            await meter.done.wait()

    asyncio.run(main())
