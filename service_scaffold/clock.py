"""The one clock: everything that waits takes a `Clock`, so that tests can move time by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from abc import ABC, abstractmethod


class Clock(ABC):
    """Tells the time and waits."""

    @abstractmethod
    def time(self) -> float:
        """Return the wall clock: epoch seconds."""

    @abstractmethod
    def monotonic(self) -> float:
        """Return seconds that never go back, from an arbitrary start."""

    @abstractmethod
    async def sleep(self, delay_s: float) -> None:
        """Wait `delay_s` seconds of this clock; 0 or less only yields once."""


class SystemClock(Clock):
    """The clock of the machine."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(max(delay_s, 0))


class ManualClock(Clock):
    """A clock that stands still until `advance` moves it.

    Args:
        start: Epoch seconds at the beginning.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._start = start
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def time(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now - self._start

    async def sleep(self, delay_s: float) -> None:
        if delay_s <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + delay_s, next(self._order), future))
        await future

    @property
    def next_due(self) -> float | None:
        """When the earliest sleeper wakes (epoch seconds), None when nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    async def advance(self, seconds: float, *, yields: int = 20) -> None:
        """Move the clock on, waking each sleeper at its own time, in order.

        Args:
            seconds: How far to move; a negative value is a ValueError.
            yields: How often the event loop may turn after each step, so that what was woken
                runs (and may sleep again) before time goes on.
        """
        if seconds < 0:
            raise ValueError(f'time does not go back: {seconds!r}')
        target = self._now + seconds
        await _turn(yields)
        while (due := self.next_due) is not None and due <= target:
            self._now = max(self._now, due)
            while (at := self.next_due) is not None and at <= self._now:
                heapq.heappop(self._sleepers)[2].set_result(None)
            await _turn(yields)
        self._now = target
        await _turn(yields)


async def _turn(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)
