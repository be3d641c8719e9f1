"""Signs of life over RabbitMQ: two streams.

One keeps announcements as long as state is kept, so that a loss is known to whoever comes later.
The other has the signs of life, in small files of which the oldest soon go. The broker can be
asked for those of the last seconds, by its own clock: who has none among them is lost.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import NoReturn

from service_scaffold import errors
from service_scaffold.transports.amqp_records import Mark, Parts, Record, RecordStream
from service_scaffold.transports.leased_presence import Board
from service_scaffold.transports.leases import LIMIT, Leases

LOGGER = logging.getLogger(__name__)

BEATS_KEEP_S = 3600
SEGMENT_BYTES = 1024 * 1024
ENTER_AGAIN_S = 3600.0
"""So often an announcement is stored again, since the broker drops old ones."""

Batches = AsyncGenerator[Sequence[Record] | Mark, None]


class AmqpBoard(Board):
    """Signs of life over RabbitMQ.

    Args:
        parts: The connection.
        name: The stream of announcements; `{name}.beats` has the signs of life.
        keep_s: How long announcements are kept.
        limit_s: How long a stream may be silent before its end is reached.
    """

    def __init__(self, parts: Parts, name: str, keep_s: int, limit_s: float) -> None:
        self._announcements = RecordStream(parts, name, keep_s, SEGMENT_BYTES)
        self._beats = RecordStream(parts, f'{name}.beats', BEATS_KEEP_S, SEGMENT_BYTES)
        self._limit_s = limit_s
        self._again_s = min(ENTER_AGAIN_S, keep_s / 4)
        self._entered: dict[str, float] = {}

    async def enter(self, id: str, sign: bytes) -> None:
        # Here first: who reads of an announcement without a sign of life takes it for a loss.
        await self._beats.append([(id, sign)])
        await self._announcements.append([(id, sign)])
        self._entered[id] = time.monotonic()

    async def beat(self, id: str, sign: bytes) -> None:
        if time.monotonic() - self._entered[id] > self._again_s:
            await self.enter(id, sign)
        else:
            await self._beats.append([(id, sign)])

    async def leave(self, id: str) -> None:
        # Here first: a sign of life that is read after the leaving would be the last one.
        await self._beats.append([(id, None)])
        await self._announcements.append([(id, None)])

    async def observe(self, leases: Leases) -> NoReturn:
        async with AsyncExitStack() as stack:
            announcements = self._announcements.read('first', self._limit_s)
            await stack.enter_async_context(aclosing(announcements))
            await _gather(announcements, leases, math.inf)
            recent = f'{math.ceil(LIMIT * leases.longest_s)}s'
            beats = self._beats.read(recent, self._limit_s)
            await stack.enter_async_context(aclosing(beats))
            await _gather(beats, leases, 0.0)
            leases.open()
            either = [
                asyncio.ensure_future(_gather(b, leases, 0.0)) for b in (announcements, beats)
            ]
            try:
                await asyncio.gather(*either)
            finally:
                for one in either:
                    one.cancel()
                await asyncio.wait(either)
        raise errors.ConnectionLost('The streams of presence have ended')


async def _gather(batches: Batches, leases: Leases, age_s: float) -> None:
    """Tell of all records until the stream's end is reached, or for ever when it was."""
    async for batch in batches:
        if isinstance(batch, Mark):
            return
        for id, value, *_ in batch:
            if value is None:
                leases.leave(id)
            else:
                leases.see(id, value, age_s)
