"""Topics in memory: partitioned, append-only logs with stable offsets, retention, compaction."""

from __future__ import annotations

import itertools
import sys
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

import msgspec

from service_scaffold.journal.base import Record
from service_scaffold.journal.partitioner import Partitioner, partition_of

PARTITIONS = 4
"""How many partitions a topic has when nobody says."""

RETENTION_RECORDS = 10_000
RETENTION_BYTES = 16 * 1024 * 1024
"""What each partition keeps of a topic that was never declared, only published to as events."""

TOMBSTONES_MS = 24 * 3600 * 1000
_COMPACT_FROM = 1000
_offset = attrgetter('offset')


class LogRecord(msgspec.Struct, gc=False):
    """One record that was appended through a journal."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Partition:
    """One log. A marker that ends a transaction takes an offset, too, as in Kafka.

    Attributes:
        start: First offset that can still be read.
        end: Offset of the next record to be appended.
    """

    def __init__(self, topic: str, number: int) -> None:
        self.topic = topic
        self.number = number
        self.start = 0
        self.end = 0
        self._records: list[Record] = []
        self._sizes: list[int] = []  # beside the records: asking each one again is slow
        self._size_bytes = 0
        self._open: dict[object, int] = {}
        self._aborted: set[int] = set()

    @property
    def stable(self) -> int:
        """The last stable offset: where the oldest open transaction begins, else the end."""
        return min(self._open.values(), default=self.end)

    def append(self, record: Record, size_bytes: int) -> None:
        """Append a record made for offset `end`."""
        self._records.append(record)
        self._sizes.append(size_bytes)
        self._size_bytes += size_bytes
        self.end += 1

    def append_unstable(self, record: Record, size_bytes: int, transaction: object) -> None:
        """Append a record of an open transaction."""
        self._open.setdefault(transaction, self.end)
        self.append(record, size_bytes)

    def finish(self, transaction: object, records: Iterable[Record], *, committed: bool) -> None:
        """Close a transaction: write its marker, and hide its records unless committed."""
        if self._open.pop(transaction, None) is None:
            return
        self.end += 1
        if not committed:
            self._aborted.update(map(_offset, records))

    def read(self, offset: int, limit: int, *, committed: bool) -> tuple[Sequence[Record], int]:
        """Return up to `limit` records from `offset` on, and where the next reading begins."""
        end = self.stable if committed else self.end
        hidden = self._aborted if committed else frozenset()
        position = self._index(offset)
        found: list[Record] = []
        while len(found) < limit:
            run = self._records[position : position + limit - len(found)]
            if run and run[-1].offset >= end:
                del run[bisect_left(run, end, key=_offset) :]
            if not run:
                break
            position += len(run)
            found += [record for record in run if record.offset not in hidden] if hidden else run
        following = found[-1].offset + 1 if found else offset
        return found, self.skip(following, committed=committed)

    def skip(self, offset: int, *, committed: bool) -> int:
        """Return the offset of the next visible record from `offset` on, else the visible end."""
        end = self.stable if committed else self.end
        position = self._index(offset)
        while position < len(self._records):
            found = self._records[position].offset
            if found >= end:
                break
            if not committed or found not in self._aborted:
                return max(found, offset)
            position += 1
        return max(end, offset)

    def at_time(self, timestamp: int) -> int:
        """Return the first stable offset at or after a time, else the last stable one."""
        stable = self.stable
        for record in self._records:
            if record.offset >= stable:
                break
            if record.timestamp >= timestamp and record.offset not in self._aborted:
                return record.offset
        return stable

    def trim(self, records: int, size_bytes: int) -> None:
        """Drop the oldest records beyond a number and a size; in larger steps, for speed."""
        if len(self._records) > records + records // 4:
            self._drop(len(self._records) - records)
        if self._size_bytes > size_bytes:
            count, left = 0, self._size_bytes
            while left > size_bytes * 3 // 4 and count < len(self._records) - 1:
                left -= self._sizes[count]
                count += 1
            self._drop(count)

    def expire(self, before: int) -> None:
        """Drop the oldest records as long as they are older than `before` (milliseconds)."""
        count = 0
        stable = self.stable
        for record in self._records:
            if record.timestamp >= before or record.offset >= stable:
                break
            count += 1
        self._drop(count)

    def truncate(self, before: int) -> None:
        """Drop all records below an offset, which becomes the first one."""
        self._drop(self._index(before))
        self.start = max(self.start, min(before, self.end))

    def compact(self, now: int) -> None:
        """Keep the newest stable record of each key; tombstones stay for a day."""
        stable = self.stable
        newest = {r.key: r.offset for r in self._records if self._settled(r, stable)}
        self._records = [
            r
            for r in self._records
            if r.offset >= stable
            or r.key is None
            or (
                newest.get(r.key) == r.offset
                and (r.value is not None or r.timestamp > now - TOMBSTONES_MS)
            )
        ]
        self._aborted.intersection_update(map(_offset, self._records))
        self._sizes = list(map(size_of, self._records))
        self._size_bytes = sum(self._sizes)

    def __len__(self) -> int:
        return len(self._records)

    def _settled(self, record: Record, stable: int) -> bool:
        return record.offset < stable and record.offset not in self._aborted

    def _drop(self, count: int) -> None:
        if count <= 0:
            return
        dropped = self._records[:count]
        self._size_bytes -= sum(self._sizes[:count])
        del self._records[:count], self._sizes[:count]
        if self._aborted:
            self._aborted.difference_update(map(_offset, dropped))
        self.start = dropped[-1].offset + 1

    def _index(self, offset: int) -> int:
        records = self._records
        if not records:
            return 0
        guess = offset - records[0].offset  # right as long as offsets have no gaps
        if guess <= 0:
            return 0
        if guess < len(records) and records[guess].offset == offset:
            return guess
        return bisect_left(records, offset, key=_offset)


class Topic:
    """A named set of partitions.

    Attributes:
        compact: Whether it keeps the last record of each key.
        largest: How many bytes of key and value a record may have.
        declared: Made through a journal: it keeps what its options say. Else it came into being
            by events and keeps a bounded number of records.
    """

    def __init__(
        self, name: str, partitions: int, config: Mapping[str, str], *, declared: bool
    ) -> None:
        self.name = name
        self.partitions = [Partition(name, number) for number in range(partitions)]
        self.declared = declared
        self.compact = 'compact' in config.get('cleanup.policy', '')
        self.largest = int(config.get('max.message.bytes', sys.maxsize))
        retention = int(config.get('retention.ms', -1))
        self._retention_ms = None if retention < 0 else retention
        self._turn = itertools.count()
        self._compact_at = dict.fromkeys(range(partitions), _COMPACT_FROM)

    def choose(self, key: bytes | None, partitioner: Partitioner = partition_of) -> int:
        """Return the partition of a key; without one, each partition in turn."""
        if key is None:
            return next(self._turn) % len(self.partitions)
        # As on Kafka: of one partition nobody is asked.
        return partitioner(key, len(self.partitions)) if len(self.partitions) > 1 else 0

    def tidy(self, now: int) -> None:
        """Drop what the topic's options no longer keep."""
        for partition in self.partitions:
            if not self.declared:
                partition.trim(RETENTION_RECORDS, RETENTION_BYTES)
            if self._retention_ms is not None:
                partition.expire(now - self._retention_ms)
            if self.compact and len(partition) >= self._compact_at[partition.number]:
                partition.compact(now)
                self._compact_at[partition.number] = max(_COMPACT_FROM, 2 * len(partition))


def size_of(record: Record) -> int:
    """Return roughly how many bytes a record holds."""
    return len(record.key or b'') + len(record.value or b'')
