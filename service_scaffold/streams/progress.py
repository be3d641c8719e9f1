"""How far recoveries are: for logs, status, listeners and whoever waits."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

LOGGER = logging.getLogger(__name__)

TELL_S = 5.0
"""A recovery that takes longer is told of in the log, and again so often."""


class RestoreListener:
    """Told of the recovery of table partitions; override what is of interest.

    What it raises is logged, and changes nothing.
    """

    def on_restore_start(self, table: str, partition: int, start: int, end: int) -> None:
        """A recovery begins: it reads the changelog from offset `start` up to `end`."""

    def on_restore_batch(self, table: str, partition: int, offset: int, count: int) -> None:
        """So many more records were read, all below `offset`."""

    def on_restore_end(self, table: str, partition: int, total: int) -> None:
        """It has ended, after `total` records."""

    def on_restore_suspended(self, table: str, partition: int, total: int) -> None:
        """It was broken off after `total` records: the partition has gone, or the connection."""


class Progress:
    """How far the recovery of one partition is.

    Attributes:
        read: Changelog records so far.
        total: How many there were at its start, counted in offsets.
    """

    def __init__(
        self,
        table: str = '',
        partition: int = 0,
        now: Callable[[], float] = lambda: 0.0,
        listeners: Sequence[RestoreListener] = (),
    ) -> None:
        self.read = 0
        self.total = 0
        self._start = 0
        self._done = 0
        self._place = (table, partition)
        self._now = now
        self._listeners = listeners
        self._began_at = self._told_at = now()
        self._running = False
        self._known = False

    def __str__(self) -> str:
        return f'{self.read} of {self.total}'

    @property
    def percent(self) -> int:
        """How much of it is done, 0 to 100; 0 until it is known how much there is."""
        if not self._known:
            return 0
        return 100 if self.total <= 0 else min(100, 100 * self._done // self.total)

    @property
    def left(self) -> int:
        """How much is still to be read, counted in offsets."""
        return max(0, self.total - self._done)

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest will take at the pace so far; None when nobody knows."""
        passed_s = self._now() - self._began_at
        if not self._done or passed_s <= 0:
            return None
        return passed_s / self._done * self.left

    def shown(self) -> dict[str, Any]:
        """Return what the status and pages say."""
        left_s = self.left_s
        shown: dict[str, Any] = {'read': self.read, 'total': self.total, 'percent': self.percent}
        return shown if left_s is None else {**shown, 'seconds_left': round(left_s, 1)}

    # Told by the recovery

    def begin(self, start: int, end: int) -> None:
        """The changelog is read from `start` up to `end`."""
        self._start, self.total = start, max(0, end - start)
        self._running = self._known = True
        self._tell('on_restore_start', start, end)

    def advance(self, offset: int, count: int) -> None:
        """So many more records were read, all below `offset`."""
        self.read += count
        self._done = offset - self._start
        self._tell('on_restore_batch', offset, count)
        now = self._now()
        if now - self._told_at >= TELL_S:
            self._told_at = now
            LOGGER.info(
                'Table %s, partition %d: %d %% recovered (%d of %d), %.0f s left',
                *self._place,
                self.percent,
                self._done,
                self.total,
                self.left_s or 0.0,
            )

    def end(self, *, whole: bool) -> None:
        """It has ended, or was broken off."""
        self._known = True
        if not self._running:
            return
        self._running = False
        self._tell('on_restore_end' if whole else 'on_restore_suspended', self.read)
        passed_s = self._now() - self._began_at
        if whole and passed_s >= TELL_S:
            LOGGER.info(
                'Table %s, partition %d: recovered, %d records in %.1f s',
                *self._place,
                self.read,
                passed_s,
            )

    def _tell(self, event: str, *args: int) -> None:
        for listener in self._listeners:
            try:
                getattr(listener, event)(*self._place, *args)
            except Exception:
                LOGGER.exception('%s of %r has failed', event, listener)


async def call_recovered(callbacks: Sequence[Callable[..., Any]], partition: int) -> None:
    """Tell the callbacks of a table that one of its partitions is here.

    Raises:
        Exception: What one of them raises: the agents of the partition do not begin.
    """
    for callback in callbacks:
        takes = len(inspect.signature(callback).parameters)
        answer = callback(partition) if takes else callback()
        if inspect.isawaitable(answer):
            await answer
