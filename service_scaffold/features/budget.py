"""Time limits for stopping: one budget, of which each hook gets its share."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

_RESERVE_S = 0.5
_RESERVED = 0.2
_RESISTANCE_S = 0.1
_LEAST_S = 0.05


class Overrun(TimeoutError):
    """A hook did not end within its limit."""


class Budget:
    """So many seconds for so many hooks, from now on.

    A hook may use all that is left, except for a small reserve for each hook that comes after it:
    the drain of a long handler gets most of the time, and a hook that hangs does not keep the
    others from closing their connections.

    Args:
        seconds: For all of it.
        hooks: How many are to come.
    """

    def __init__(self, seconds: float, hooks: int) -> None:
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._hooks = hooks
        self._reserve_s = min(_RESERVE_S, seconds * _RESERVED / hooks) if hooks else 0.0

    @property
    def remaining_s(self) -> float:
        """Seconds left, not negative."""
        return max(self._deadline - asyncio.get_running_loop().time(), 0.0)

    @property
    def spare_s(self) -> float:
        """Seconds left when each hook still to come gets its reserve."""
        return max(self.remaining_s - self._reserve_s * self._hooks, 0.0)

    def next_hook_s(self) -> float:
        """Return how many seconds the next hook may take."""
        self._hooks = max(self._hooks - 1, 0)
        return max(self.spare_s, _LEAST_S)


async def run_bounded(call: Coroutine[Any, Any, None], limit_s: float) -> None:
    """Run `call` for at most `limit_s` seconds, even if it resists being cancelled.

    Raises:
        Overrun: It did not end in time; it was cancelled, and left alone if that did not help.
    """
    task = asyncio.ensure_future(call)
    try:
        done, _ = await asyncio.wait({task}, timeout=limit_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        await asyncio.wait({task}, timeout=_RESISTANCE_S)
        if task.done() and not task.cancelled() and task.exception() is not None:
            raise Overrun(f'no end within {limit_s:.1f} s') from task.exception()
        raise Overrun(f'no end within {limit_s:.1f} s')
    await task
