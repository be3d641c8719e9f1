"""Whatever ends with time in one partition of a table: its clock, and who acts on it."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import Any, Protocol

from service_scaffold.backoff import Backoff
from service_scaffold.clock import Clock
from service_scaffold.streams.effects import LANE, Effects, Hand, Unit
from service_scaffold.streams.event import Event
from service_scaffold.streams.state import PartitionState
from service_scaffold.streams.stream_time import FOREVER, NEVER, StreamTimes
from service_scaffold.streams.tables.cells import Cells
from service_scaffold.streams.tables.shelves import MARK, Mark, read_mark

LOGGER = logging.getLogger(__name__)

SHORTEST_SLEEP_S = 0.01


class Partition(Unit, Protocol):
    """What a keeper works for."""

    def rested(self) -> None:
        """Somebody has nothing to do any more."""


class KeeperHand:
    """What the keeper has in hand: what it does counts at once, like that of an event.

    Attributes:
        unit: The partition.
        effects: What has been done so far.
        current: Stands for what has ended.
    """

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.effects = Effects()
        self.current: list[Event] = []

    @property
    def event(self) -> Event | None:
        return self.current[-1] if self.current else None

    @property
    def in_hand(self) -> list[Event]:
        return self.current

    @property
    def effective(self) -> bool:
        return True

    def apply(self) -> None:
        """Let count what has been done."""
        effects, self.effects = self.effects, Effects()
        if effects:
            self.unit.apply(effects)


class Keeper(ABC):
    """Keeps the stream time of a partition of a table, and ends what it is time for.

    Its time goes on with finished events, and never back; with what has ended it is written into
    the changelog. What it does is applied at once for each thing that ends, so that a crash repeats
    nothing that is committed.

    Args:
        idle_s: Seconds without an event after which time goes on with the clock, so much behind it;
            None: it stands still.

    Attributes:
        table: Name of the table.
        state: Its partition.
        ms: The stream time.
        next_ms: When something ends next; never later than in truth.
        since_ms: Up to when everything has ended that had to. What is written ends after that.
        backing_off: Whether it pauses before another attempt.
    """

    def __init__(self, state: PartitionState, idle_s: float | None = None) -> None:
        self.table = state.table
        self.state = state
        self.next_ms = self.since_ms = NEVER
        self.backing_off = False
        self.mark = Mark()
        self.ms = NEVER
        self._noted = Mark()
        self._idle_s = idle_s
        self._poked = asyncio.Event()
        self._working = False
        self._failures = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._times = StreamTimes()
        self._seen = NEVER
        self._seen_at = 0.0

    # Its life

    def begin(self, times: StreamTimes, unit: Partition, clock: Clock, spawn: Any) -> None:
        """Go on where the changelog says."""
        self.mark = self._noted = read_mark(self.state.get(MARK))
        self.ms = self._seen = self.mark.ms
        self.clock = clock
        self._times = times
        self._unit = unit
        self._seen_at = clock.monotonic()
        self.hand = KeeperHand(unit)
        self.cells = Cells(self.state, self.hand)
        self.poke()
        self._tasks.append(spawn(self._run(), f'time of table {self.table}'))
        if self._idle_s is not None:
            self._tasks.append(spawn(self._follow(self._idle_s), f'clock of table {self.table}'))

    async def close(self) -> None:
        """Stop; what is in hand happens again."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks.clear()

    # Told by the partition

    def poke(self) -> None:
        """Look at the time: events have been finished."""
        self._poked.set()

    def advance(self, ms: int) -> None:
        """Let it be `ms`, or later."""
        if ms > self.ms:
            self.ms = ms
            self._poked.set()

    def note(self) -> None:
        """Write the time down, as part of the checkpoint that comes now."""
        self._look()
        mark = self.mark._replace(ms=self.ms)
        if mark != self._noted:
            self._noted = self.mark = mark
            self.state.apply({MARK: mark.write()})

    def floor(self, state: PartitionState) -> int | None:
        """Return the time as of which it has written a partition of another table, while at work.

        Of its own it has ended nothing that it has written.
        """
        return None if state is self.state else self.hand.effects.floors.get(state)

    def runs(self, hand: object) -> bool:
        """Tell whether `hand` is its own."""
        return hand is self.hand

    @property
    def feeds(self) -> frozenset[str]:
        """Names of other tables that are written when something of this one ends."""
        return frozenset()

    @property
    def ended_ms(self) -> int:
        """Up to when all that had to end has ended: the time of the tables that it feeds."""
        if self._working or self.next_ms <= self.ms:
            return self.since_ms
        return self._times.floor(self.state, self.ms)

    # Asked by the table

    def time_of(self, hand: Hand, event: Event) -> int:
        """Return the stream time at an event: the same from its first write to its end."""
        floor = hand.effects.floors.get(self.state)
        return max(self.ms, self._times.of(event)) if floor is None else floor

    def touch(self, hand: Hand, ms: int) -> None:
        """Something is written as of stream time `ms`: what it finds open must stay so."""
        floors = hand.effects.floors
        if self.state not in floors:
            floors[self.state] = ms
            self._times.meet(self.table, hand)
            if isinstance(hand, KeeperHand):  # an agent's lane tells us itself
                hand.effects.then.append(self.poke)

    def due_at(self, hand: Hand, at_ms: int) -> None:
        """Something is written that ends at `at_ms`."""
        hand.effects.then.append(lambda: self._expect(at_ms))

    def _expect(self, at_ms: int) -> None:
        if at_ms < self.next_ms:
            self.next_ms = at_ms
            self._poked.set()

    # How it is

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do until time goes on."""
        return self.resting and not self._poked.is_set()

    @property
    def resting(self) -> bool:
        """Whether it has nothing in hand."""
        return not self._working

    # At work

    def _look(self) -> None:
        reached = self._times.reached(self.table)
        if reached > self._seen:
            self._seen = reached
            self._seen_at = self.clock.monotonic()
        if reached > self.ms:
            self.ms = reached

    async def _run(self) -> None:
        LANE.set(self.hand)
        while True:
            await self._poked.wait()
            self._poked.clear()
            self._look()
            if self.ms >= self.next_ms and not self._unit.held:
                self._working = True
                try:
                    await self._work()
                finally:
                    self._working = False
                self._unit.rested()
            self._times.passed(self.table)

    async def _work(self) -> None:
        """End what it is time for, and find out when to look again."""
        limit_ms = self._times.floor(self.state, self.ms)
        try:
            await self._sweep(limit_ms)
        except Exception:
            LOGGER.exception('%s, partition %d: nothing ends now', self.table, self.state.partition)
            self.forget()
            self._failures += 1
            await self.pause(Backoff().delay(self._failures))
            self._poked.set()
            return
        self._failures = 0
        self.hand.apply()
        if not self._unit.held:
            self.since_ms = max(self.since_ms, limit_ms)
            next_ms = self._next_ms()
            self.next_ms = FOREVER if next_ms is None else next_ms

    def forget(self) -> None:
        """Let nothing of what was done count: it has failed."""
        self.hand.effects = Effects()
        self._times.poke()  # what it had written open may end

    async def turn(self) -> None:
        """Let others have their turn."""
        await asyncio.sleep(0)

    async def pause(self, delay_s: float) -> None:
        """Wait before another attempt."""
        self.backing_off = True
        try:
            await self.clock.sleep(delay_s)
        finally:
            self.backing_off = False

    @property
    def held(self) -> bool:
        """Whether nothing new may begin."""
        return self._unit.held

    @abstractmethod
    async def _sweep(self, limit_ms: int) -> None:
        """End what has to end at `limit_ms`; begin nothing new once the partition is held."""

    @abstractmethod
    def _next_ms(self) -> int | None:
        """Return when something ends next, None if nothing is left."""

    async def _follow(self, idle_s: float) -> None:
        """Go on with the clock while no event comes."""
        while True:
            if self._times.waiting(self.table):
                self._seen_at = self.clock.monotonic()
            silent_s = self.clock.monotonic() - self._seen_at
            if silent_s >= idle_s and self._seen > NEVER:
                self.advance(self._seen + round((silent_s - idle_s) * 1000))
            wait_s = idle_s
            if self.next_ms > NEVER and self._seen > NEVER:
                wait_s = (self.next_ms - self._seen) / 1000 + idle_s - silent_s
            await self.clock.sleep(min(max(wait_s, SHORTEST_SLEEP_S), idle_s))
