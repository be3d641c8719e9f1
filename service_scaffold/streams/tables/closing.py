"""Closing windows: once for each key and window, together with what is done about it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from service_scaffold import errors
from service_scaffold.streams.deadletters import Letters
from service_scaffold.streams.decision import DEFAULT
from service_scaffold.streams.event import Event, Sends
from service_scaffold.streams.state import PartitionState
from service_scaffold.streams.tables.keeper import Keeper, KeeperHand
from service_scaffold.streams.tables.named import tables_in
from service_scaffold.streams.tables.shelves import MARK, Kept, Shelf
from service_scaffold.streams.window_plan import Window

LOGGER = logging.getLogger(__name__)

TURN_EVERY = 64
"""After so many windows that nobody had to wait for, the event loop gets its turn."""

OnClose = Callable[[Any, Window, Any], Any]
"""`on_window_close(key, window, value)`, sync or async."""

WINDOW_START = 'window-start'
WINDOW_END = 'window-end'
"""Headers of what is sent to a topic when a window closes: epoch seconds."""


class ClosedRecord(NamedTuple):
    """A window that closes, as if it were a record: its time is the last moment of the window."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass
class Closer:
    """What to do about a window that closes.

    Attributes:
        decode: Decodes key and value.
        target: A function, or where the value is sent with its key; None: nothing.
        name: Of what its dead letters are about: `{id}-{table}-closed`.
        group: The application's id.
        closed: How many windows have closed.
        failed: How many of them are in the dead letters.
    """

    decode: Callable[[Kept], tuple[Any, Any]]
    target: OnClose | Sends | None = None
    name: str = ''
    group: str = ''
    closed: int = 0
    failed: int = 0

    @cached_property
    def writes(self) -> frozenset[str]:
        """Names of the tables that the function names."""
        return frozenset(table.name for table in tables_in(self.target))

    def named(self, name: str, group: str) -> None:
        """Take the names that the application has at last."""
        self.name, self.group = name, group

    def record(self, kept: Kept, partition: int) -> ClosedRecord:
        """Return the record that a window is like."""
        headers = (
            (WINDOW_START, f'{kept.window.start:.3f}'.encode()),
            (WINDOW_END, f'{kept.window.end:.3f}'.encode()),
        )
        at_ms = kept.window.end_ms - 1
        return ClosedRecord(self.name, partition, -1, at_ms, kept.key, kept.data, headers)

    async def call(self, kept: Kept, event: Event, hand: KeeperHand) -> None:
        """Tell of a window."""
        event.key, event.value = self.decode(kept)
        if callable(self.target):
            answer = self.target(event.key, kept.window, event.value)
            if inspect.isawaitable(answer):
                await answer
            await hand.effects.complete()
        elif self.target is not None:
            await self.target.send(key=event.key, value=event.value, headers=event.headers)


class WindowKeeper(Keeper):
    """Closes the windows of one partition, and removes those that have expired."""

    def __init__(
        self, state: PartitionState, shelf: Shelf, closer: Closer, idle_s: float | None
    ) -> None:
        super().__init__(state, idle_s)
        self.shelf = shelf
        self._closer = closer

    @property
    def feeds(self) -> frozenset[str]:
        return self._closer.writes - {self.table}

    async def _sweep(self, limit_ms: int) -> None:
        found = self.shelf.sweep(self.cells, self.since_ms, limit_ms, self.mark)
        for number, kept in enumerate(found, 1):
            self.hand.apply()
            if self.held:
                return
            if kept is not None:
                await self._close(kept)
            if kept is None or number % TURN_EVERY == 0:
                await self.turn()

    async def _close(self, kept: Kept) -> None:
        if self._closer.target is not None:
            await self._tell(kept)
        # What it did and that it has closed are one: nothing may come in between.
        mark = self.shelf.closed(self.cells, kept, self.mark._replace(ms=self.ms))
        self.cells.put(MARK, mark.write())
        self.hand.apply()
        self.mark = self._noted = mark
        self._closer.closed += 1

    async def _tell(self, kept: Kept) -> None:
        record = self._closer.record(kept, self.state.partition)
        attempts = 0
        while True:
            attempts += 1
            self.hand.current = [Event(kept.key, kept.data, record)]
            try:
                await self._closer.call(kept, self.hand.current[-1], self.hand)
                return
            except errors.CoPartitionError as error:
                self.hand.unit.stop(error)
                raise
            except Exception as error:
                self.forget()
                LOGGER.warning(
                    '%s: attempt %d on window %s to %s failed',
                    self._closer.name,
                    attempts,
                    kept.window.start,
                    kept.window.end,
                    exc_info=error,
                )
                if DEFAULT.max is not None and attempts >= DEFAULT.max:
                    self._bury(record, error, attempts)
                    return
                await self.pause(DEFAULT.pause_s(attempts))
            finally:
                self.hand.current = []

    def _bury(self, record: ClosedRecord, error: Exception, attempts: int) -> None:
        closer = self._closer
        LOGGER.error('%s: a window is dead-lettered', closer.name, exc_info=error)
        letters = Letters(self.table, closer.group, self.clock)
        letter = letters.letter(record, 'retries_exhausted', error, attempts)
        self.hand.effects.sends.append(letter)
        closer.failed += 1

    def _next_ms(self) -> int | None:
        return self.shelf.next_ms(self.state, self.since_ms, self.mark)
