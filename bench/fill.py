"""Fills an exchange before it is consumed: the same messages for every side."""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

from bench.service import reading, started
from service_scaffold import events

CHUNK = 1000


async def fill(url: str, total: int, exchange: str) -> None:
    """Publish `total` messages; where a queue is needed to keep them, make the group's first."""
    if url.startswith('amqp'):

        def subscribe(app: web.Application) -> None:
            events.get_listener(app).subscribe(exchange, '#', group='bench')

        async with started(url, subscribe):
            pass
    async with started(url) as app:
        for first in range(0, total, CHUNK):
            await events.get_publisher(app).publish_many(
                exchange,
                [(f'boiler.{n % 50}', reading(n)) for n in range(first, first + CHUNK)],
            )


if __name__ == '__main__':
    asyncio.run(fill(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
