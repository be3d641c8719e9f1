"""Stream time: how far the events of a partition have come, by their own timestamps.

Each event of a topic has its place in time: the highest timestamp up to it. That does not depend on
which lane handles it, nor when, so what is late is the same in every run. The stream time of a
table is the highest timestamp below the lowest unfinished event of the agents that use it: no event
that is still to come, or to be tried again, can then touch what has ended.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from service_scaffold.streams.event import Event
from service_scaffold.streams.track import Track

NEVER = -(1 << 62)
"""A time before all others, in milliseconds."""
FOREVER = 1 << 62
"""A time after all others."""
LIMIT = 1 << 61
"""Nothing happens that far from the epoch, 73 million years: what claims to is a mistake, and does
not move the time of others. Window bounds and lifetimes around it still have their 64 bits."""


def is_time(ms: int) -> bool:
    """Tell whether something may have happened then."""
    return -LIMIT < ms < LIMIT


class Peaks:
    """The highest timestamp up to each record of one partition of a topic; see `LIMIT`."""

    def __init__(self) -> None:
        self._offsets: list[int] = []
        self._peaks: list[int] = []
        self._next = -1

    def feed(self, records: Iterable[Any]) -> None:
        """Take records in their order; those seen before change nothing."""
        top = self._peaks[-1] if self._peaks else NEVER
        for record in records:
            if record.offset >= self._next:
                self._next = record.offset + 1
                if top < record.timestamp < LIMIT:
                    top = record.timestamp
                    self._offsets.append(record.offset)
                    self._peaks.append(top)

    def at(self, offset: int) -> int:
        """Return the highest timestamp up to and including `offset`."""
        place = bisect_right(self._offsets, offset)
        return self._peaks[place - 1] if place else NEVER

    def forget(self, offset: int) -> None:
        """Nobody will ask about what is below `offset`, except for the highest of it."""
        place = bisect_left(self._offsets, offset) - 1
        if place > 0:
            del self._offsets[:place]
            del self._peaks[:place]


class Follower(Protocol):
    """An agent at work on a partition, as far as time is concerned."""

    @property
    def name(self) -> str: ...

    @property
    def tracks(self) -> Mapping[str, Track]: ...

    def floor(self, state: Any) -> int | None:
        """Return the time as of which an event in hand has written `state`, None without one."""

    def runs(self, hand: object) -> bool:
        """Tell whether `hand` is one of its lanes."""


class Timed(Protocol):
    """One partition of a table whose records end with time."""

    table: str
    next_ms: int

    @property
    def ended_ms(self) -> int: ...

    @property
    def feeds(self) -> frozenset[str]: ...

    def begin(self, times: StreamTimes, unit: Any, clock: Any, spawn: Any) -> None: ...

    def poke(self) -> None: ...

    def advance(self, ms: int) -> None: ...

    def note(self) -> None: ...

    def floor(self, state: Any) -> int | None: ...

    def runs(self, hand: object) -> bool: ...

    @property
    def idle(self) -> bool: ...

    @property
    def resting(self) -> bool: ...

    @property
    def backing_off(self) -> bool: ...

    async def close(self) -> None: ...


class StreamTimes:
    """The time in one task: of each topic, and of the tables that go by it.

    Args:
        followers: The agents at work.
        users: Names of the tables that each of them is known to use.

    Attributes:
        keepers: Of those partitions of tables whose records end with time.
    """

    def __init__(
        self,
        followers: Sequence[Follower] = (),
        users: Callable[[Any], Iterable[str]] = lambda _: (),
        keepers: Sequence[Timed] = (),
    ) -> None:
        self.keepers = list(keepers)
        self._peaks: dict[str, Peaks] = {}
        self._followers = followers if keepers else ()
        self._users: dict[str, list[Follower]] = {keeper.table: [] for keeper in keepers}
        self._sources: dict[str, list[Timed]] = {
            fed.table: [keeper for keeper in keepers if fed.table in keeper.feeds]
            for fed in keepers
        }
        for follower in self._followers:
            for table in users(follower):
                if table in self._users:
                    self._users[table].append(follower)

    def begin(self, unit: Any, clock: Any, spawn: Any) -> None:
        """Let time pass."""
        for keeper in self.keepers:
            keeper.begin(self, unit, clock, spawn)

    async def close(self) -> None:
        """End what runs; what it had in hand happens again."""
        await asyncio.gather(*(keeper.close() for keeper in self.keepers))

    def feed(self, topic: str, records: Sequence[Any]) -> None:
        """See the records of a topic before agents do."""
        if self.keepers:
            peaks = self._peaks.get(topic)
            if peaks is None:
                peaks = self._peaks[topic] = Peaks()
            peaks.feed(records)

    def poke(self) -> None:
        """Events have been finished."""
        for keeper in self.keepers:
            keeper.poke()

    def advance(self, ms: int) -> None:
        """Let it be `ms`, or later, in every table; those that another one feeds follow that."""
        for keeper in self.keepers:
            if not self._sources[keeper.table]:
                keeper.advance(ms)

    def note(self) -> None:
        """Write down how late it is, as part of the checkpoint that comes now."""
        for keeper in self.keepers:
            keeper.note()
        for topic, peaks in self._peaks.items():
            tracks = [f.tracks[topic] for f in self._followers if topic in f.tracks]
            if tracks:
                peaks.forget(min(track.lowest for track in tracks))

    # Asked by keepers

    def of(self, event: Event) -> int:
        """Return the place of an event in time."""
        peaks = self._peaks.get(event.topic)
        return NEVER if peaks is None else peaks.at(event.offset)

    def reached(self, table: str) -> int:
        """Return how far finished events allow the time of a table to be."""
        lowest: dict[str, int] = {}
        for follower in self._users[table]:
            for topic, track in follower.tracks.items():
                lowest[topic] = min(track.lowest, lowest.get(topic, track.lowest))
        times = [
            self._peaks[topic].at(at - 1) for topic, at in lowest.items() if topic in self._peaks
        ]
        return max([*times, *(keeper.ended_ms for keeper in self._sources[table])], default=NEVER)

    def passed(self, table: str) -> None:
        """Time has gone on in a table: those that it feeds may follow."""
        for keeper in self.keepers:
            if any(source.table == table for source in self._sources[keeper.table]):
                keeper.poke()

    def waiting(self, table: str) -> bool:
        """Tell whether an agent that uses a table has something to do."""
        return any(
            track.pending for follower in self._users[table] for track in follower.tracks.values()
        )

    def floor(self, state: Any, ms: int) -> int:
        """Return `ms`, or less where an event in hand has written `state` as of earlier."""
        floors = [follower.floor(state) for follower in self._followers]
        floors += [keeper.floor(state) for keeper in self.keepers]
        return min([ms, *(floor for floor in floors if floor is not None)])

    def meet(self, table: str, hand: object) -> None:
        """Count with whoever uses the table, and nobody has seen before that he does."""
        known = self._users[table]
        for follower in self._followers:
            if follower not in known and follower.runs(hand):
                known.append(follower)
        for keeper in self.keepers:
            if keeper.runs(hand) and keeper not in self._sources[table] and keeper.table != table:
                self._sources[table].append(keeper)

    # How it is

    @property
    def next_ms(self) -> int | None:
        """The earliest time at which something ends, as far as is known."""
        times = [keeper.next_ms for keeper in self.keepers if NEVER < keeper.next_ms < FOREVER]
        return min(times, default=None)

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do until time passes."""
        return all(keeper.idle for keeper in self.keepers)

    @property
    def resting(self) -> bool:
        """Whether nothing is in hand."""
        return all(keeper.resting for keeper in self.keepers)

    @property
    def backing_off(self) -> bool:
        """Whether something pauses before another attempt."""
        return any(keeper.backing_off for keeper in self.keepers)
