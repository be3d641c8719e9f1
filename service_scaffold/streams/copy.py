"""One partition of a table that another worker owns: what of its changelog is here, and counts.

What is not committed does not count. Under exactly-once the log shows committed records only.
Otherwise the records of a checkpoint are kept beside the store until one of the next checkpoint
comes. A checkpoint that was given up looks the same from here; so the store notes the highest one
in it, and a recovery that finds that above the committed one builds the store anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from service_scaffold.journal.base import Record, TopicPartition
from service_scaffold.streams.checkpoint import checkpoint_of, read_position, write_position
from service_scaffold.streams.state import Changes, PartitionState
from service_scaffold.streams.tables.table import Table


class CopyState(PartitionState):
    """A partition as its changelog tells it: with what may not be in the store yet."""

    def committed(self, key: bytes) -> bytes | None:
        for layer in (self._applied, self._flushing):
            if key in layer:
                return layer[key]
        return super().committed(key)

    def committed_scan(
        self, first: bytes = b'', last: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        return self.scan(first, last)


class Copy:
    """One partition of a table, followed.

    Args:
        first, end: What its changelog has; None: what the store says, as it was ours just now.

    Attributes:
        table: Its table.
        state: What is here.
        start: Where its changelog has to be read from.
        next: The offset after the last record that was taken.
        end: Where the changelog ended when it was looked at last.
        goal: Where it ended when the copy was opened.
    """

    def __init__(
        self, table: Table, state: CopyState, first: int | None = None, end: int | None = None
    ) -> None:
        self.table = table
        self.state = state
        position = read_position(state.store.position)
        known = 0 if position is None else position.offset
        first, end = known if first is None else first, known if end is None else end
        self.end = self.goal = end
        if position is not None and not first <= position.offset <= end:
            state.store.wipe()
            position = None
        self.start = self.next = first if position is None else position.offset
        self._highest = 0 if position is None else position.checkpoint
        self._checkpoint = 0

    @property
    def where(self) -> TopicPartition:
        """Its changelog."""
        return self.table.logged(self.state.partition)

    @property
    def whole(self) -> bool:
        """Whether all is here that was there when it was opened."""
        return self.next >= self.goal

    @property
    def lag(self) -> int:
        """How many records, counted in offsets, it is behind."""
        return max(0, self.end - self.next)

    def take(self, records: Sequence[Record]) -> None:
        """Take the next records of the changelog."""
        changes: Changes = {}
        for record in records:
            checkpoint = checkpoint_of(record)
            if checkpoint != self._checkpoint:
                self.state.apply(changes)
                changes = {}
                self._store(record.offset)
                self._checkpoint = checkpoint
            if record.key is not None:
                changes[record.key] = record.value
        self.state.apply(changes)
        self.next = records[-1].offset + 1
        if self._checkpoint == 0:
            self._store(self.next)

    def _store(self, offset: int) -> None:
        """Write what is known to be committed: all below `offset`."""
        if self.state.dirty:
            self._highest = max(self._highest, self._checkpoint)
            self.state.take()
            self.state.settle(write_position(offset, self._highest))

    def read_to(self, offset: int) -> None:
        """Note that there is nothing below `offset` that was not taken."""
        self.next = max(self.next, offset)
