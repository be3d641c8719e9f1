"""Waking a lane that waits for records."""

from __future__ import annotations

import asyncio

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
