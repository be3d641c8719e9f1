"""Our side's application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

from bench.meter import Meter
from service_scaffold import events, service


class Reading(msgspec.Struct):
    """The typed message that all sides decode into, where they can."""

    sensor: str
    value: float
    unit: str
    site: str
    number: int


@asynccontextmanager
async def started(
    url: str, setup: Callable[[web.Application], object] = lambda app: None
) -> AsyncIterator[web.Application]:
    """Run an application on `url` whose subscriptions are active."""
    app = service.create_app(
        'bench', raw_args=['--eventbus-url', url, '--log-level', 'error', '--host', '127.0.0.1']
    )
    events.setup(app)
    setup(app)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        for subscription in events.get_listener(app).subscriptions:
            await subscription.wait_active(30)
        yield app
    finally:
        await runner.cleanup()


def consume(url: str, total: int, exchange: str, policy: events.Policy) -> None:
    """Measure a group that handles `total` messages of an exchange."""

    async def main() -> None:
        meter = Meter(total)

        async def on_message(subscription: object, key: str, message: Reading) -> None:
            meter.hit()

        def subscribe(app: web.Application) -> None:
            events.get_listener(app).subscribe(
                exchange, '#', on_message=on_message, group='bench', policy=policy
            )

        async with started(url, subscribe):
            async with asyncio.timeout(120):
                await meter.done.wait()

    asyncio.run(main())


def publish(url: str, total: int, exchange: str, chunk: int) -> None:
    """Measure `publish_many` of `total` messages, `chunk` at once."""

    async def main() -> None:
        async with started(url) as app:
            publisher = events.get_publisher(app)
            await publisher.publish(exchange, 'boiler.temperature', reading(0))
            meter = Meter(total)
            meter.start()
            for first in range(0, total, chunk):
                numbers = range(first, first + chunk)
                await publisher.publish_many(
                    exchange, [(f'boiler.{number % 50}', reading(number)) for number in numbers]
                )
            meter.finish()

    asyncio.run(main())


def reading(number: int) -> Reading:
    """Return the message with a number."""
    return Reading('boiler-7', 20.5 + number % 10, 'C', 'hall 4, second floor', number)
