"""Waking those who wait for something to change, at most so long."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from service_scaffold.clock import Clock


class Bell:
    """Wakes the one who waits, also if it is rung between `expect` and `wait`.

    Args:
        clock: What limits are measured with.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake the one who waits, if somebody does."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def expect(self) -> None:
        """Somebody is going to wait: what rings from now on is for them."""
        self._waiter = asyncio.get_running_loop().create_future()

    async def wait(self, until: float | None) -> None:
        """Wait until it has rung, or until so many monotonic seconds of the clock."""
        assert self._waiter is not None, 'expect comes first'
        alarm: asyncio.Future[None] | None = None
        if until is not None:
            alarm = asyncio.ensure_future(self._clock.sleep(until - self._clock.monotonic()))
            alarm.add_done_callback(lambda _: self.ring())
        try:
            await self._waiter
        finally:
            if alarm is not None:
                alarm.cancel()


class Waiters:
    """Several who wait for something to change, each with a limit.

    Args:
        clock: What limits are measured with; asked each time.
    """

    def __init__(self, clock: Callable[[], Clock]) -> None:
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self, until: float | None) -> bool:
        """Wait until something changes; False when so many monotonic seconds have come."""
        clock = self._clock()
        left_s = None if until is None else until - clock.monotonic()
        if left_s is not None and left_s <= 0:
            return False
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        alarm = None
        if left_s is not None:
            alarm = asyncio.ensure_future(clock.sleep(left_s))
            alarm.add_done_callback(lambda _: _finish(waiter))
        try:
            await waiter
        finally:
            self._waiting.remove(waiter)
            if alarm is not None:
                alarm.cancel()
        return True

    def wake(self) -> None:
        """Let everybody look again."""
        for waiter in list(self._waiting):
            if waiter.get_loop().is_closed():
                self._waiting.remove(waiter)
            else:
                _finish(waiter)


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
