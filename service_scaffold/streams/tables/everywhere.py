"""Tables that every worker reads as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from service_scaffold import errors
from service_scaffold.streams.effects import LANE, Hand
from service_scaffold.streams.state import PartitionState
from service_scaffold.streams.tables.sets import SetTable
from service_scaffold.streams.tables.table import Table


class GlobalTable(Table):
    """A table that every worker has all partitions of; made by `app.GlobalTable`.

    Any agent, and everything outside, reads all keys: those of the event's own partition with what
    was just written, others as of the last checkpoint that has come here. Writes go to the
    partition of the event, as with any table; an agent of topics with another number of partitions
    reads only. The application is ready, and agents begin, when what was there at the start is
    here. Where a part is missing, what is not found raises NotOwned: it may be there.

    Write a key with events of one partition. Where several have it, the event's own comes first,
    then the one that its hash says, then the lowest.
    """

    is_global = True
    joinable = False

    @property
    def visible(self) -> Mapping[int, PartitionState]:
        return {**self.copies, **self.here}

    def _read_own(self, lane: Hand, data: bytes) -> bytes | None:
        try:
            state = lane.unit.state(self)
        except errors.CoPartitionError:
            return self._elsewhere(data, data)
        written = lane.effects.writes.get(state)
        if written is not None and written.get(data) is not None:
            return written[data]
        gone = written is not None and data in written
        value = None if gone else state.get(data)
        return self._elsewhere(data, data, but=state) if value is None else value

    def _elsewhere(self, data: bytes, key: Any, but: PartitionState | None = None) -> bytes | None:
        home = self._home(data)
        others = sorted(self.visible.items(), key=lambda found: (found[0] != home, found[0]))
        for _, state in others:
            if state is not but and (value := self._committed(state, data)) is not None:
                return value
        self._check_whole()
        return None

    def _check_whole(self) -> None:
        missing = set(range(self.count or 1)) - self.visible.keys()
        if missing:
            raise errors.NotOwned(
                f'Table {self.name}: partition {min(missing)} is not here yet; it is read from the'
                ' changelog, and the application is not ready meanwhile'
            )

    def _between(
        self, first: bytes = b'', last: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        self._check_whole()
        own: PartitionState | None = None
        rows: dict[bytes, bytes] = {}
        lane = LANE.get()
        if lane is not None and lane.effective:
            try:
                own = lane.unit.state(self)
            except errors.CoPartitionError:
                own = None
            else:
                rows.update(own.scan(first, last, over=lane.effects.writes.get(own)))
        for number, state in sorted(self.visible.items()):
            if state is own:
                continue
            for key, value in state.committed_scan(first, last):
                if key not in rows or self._home(key) == number:
                    rows[key] = value
        yield from sorted(rows.items())


class SetGlobalTable(GlobalTable, SetTable):
    """A table of sets that every worker reads as a whole; made by `app.SetGlobalTable`."""
