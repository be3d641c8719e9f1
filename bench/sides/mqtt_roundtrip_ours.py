"""QoS 1 out by publish_many, QoS 1 in by a live view, in one process."""

import asyncio

from aiohttp import web

from bench.meter import Meter, arguments
from bench.service import Reading, reading, started
from service_scaffold import events

url, total, exchange = arguments()
CHUNK = 100


async def main() -> None:
    meter = Meter(total)

    async def on_message(subscription: object, key: str, message: Reading) -> None:
        meter.hit()

    def subscribe(app: web.Application) -> None:
        events.get_listener(app).subscribe(exchange, '#', on_message=on_message)

    async with started(url, subscribe) as app:
        publisher = events.get_publisher(app)
        meter.start()
        for first in range(0, total, CHUNK):
            await publisher.publish_many(
                exchange,
                [('boiler', reading(number)) for number in range(first, first + CHUNK)],
            )
        async with asyncio.timeout(60):
            await meter.done.wait()


asyncio.run(main())
