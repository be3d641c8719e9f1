"""The whole pipeline in memory: publish_many, bytes in between, a typed group handler."""

import asyncio

from aiohttp import web

from bench.meter import Meter, arguments
from bench.service import Reading, reading, started
from service_scaffold import events

_, total, exchange = arguments()
CHUNK = 1000


async def main() -> None:
    meter = Meter(total)

    async def on_message(subscription: object, key: str, message: Reading) -> None:
        meter.hit()

    def subscribe(app: web.Application) -> None:
        events.get_listener(app).subscribe(
            exchange,
            '#',
            on_message=on_message,
            group='bench',
            policy=events.Policy(prefetch=1000),
        )

    async with started('memory://', subscribe) as app:
        publisher = events.get_publisher(app)
        meter.start()
        for first in range(0, total, CHUNK):
            await publisher.publish_many(
                exchange,
                [(f'boiler.{n % 50}', reading(n)) for n in range(first, first + CHUNK)],
            )
        async with asyncio.timeout(60):
            await meter.done.wait()


asyncio.run(main())
