"""One partition of one table on the worker that owns it."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Any

from service_scaffold.journal.base import TopicPartition
from service_scaffold.streams.sizes import check_size
from service_scaffold.streams.stores.base import Store

Changes = dict[bytes, bytes | None]
"""Encoded key to encoded value; None deletes."""

CACHE_LIMIT = 50_000
"""How many values, at most, are kept beside a store, so that reading one again costs no look-up."""
CACHE_BYTES = 32 << 20
"""How large they are together, at most."""

ASIDE = 1_000
"""So many changes take milliseconds to write, which the event loop does not wait for."""


class PartitionState:
    """The values of a partition: those in the store, and over them what is not committed yet.

    Attributes:
        table: Name of the table.
        partition: Number of the partition.
        changelog: Where its changes are logged, None for a table that logs nowhere.
        store: What survives a restart; it holds committed values only.
        keeper: Ends with time what is to end, None where nothing does.
        record_bytes: How large a change may be, as it has to be logged; None: any size.
    """

    def __init__(
        self, table: str, partition: int, store: Store, changelog: TopicPartition | None
    ) -> None:
        self.table = table
        self.partition = partition
        self.changelog = changelog
        self.store = store
        self._applied: Changes = {}
        self._flushing: Changes = {}
        self._cache: Changes = {}
        self._cached_bytes = 0
        self._order: list[bytes] | None = None  # keys of the two layers, once somebody scans
        self.keeper: Any = None
        self.record_bytes: int | None = None

    def check(self, key: bytes, value: bytes | None) -> None:
        """Refuse a change that could not be logged, while it is somebody's in particular.

        Raises:
            EncodeError: It is too large.
        """
        if self.record_bytes is not None:
            check_size(f'Table {self.table}', key, value, self.record_bytes)

    def get(self, key: bytes) -> bytes | None:
        """Return the newest value that has been applied."""
        if key in self._applied:
            return self._applied[key]
        if key in self._flushing:
            return self._flushing[key]
        return self.committed(key)

    def committed(self, key: bytes) -> bytes | None:
        """Return the value of the last checkpoint."""
        if key in self._cache:
            return self._cache[key]
        value = self.store.get(key)
        if value is not None:
            self._cached_bytes += len(value)
        if len(self._cache) >= CACHE_LIMIT or self._cached_bytes > CACHE_BYTES:
            self._empty_cache()
        self._cache[key] = value
        return value

    def _empty_cache(self) -> None:
        self._cache.clear()
        self._cached_bytes = 0

    def committed_scan(
        self, first: bytes = b'', last: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield what `scan` does, as of the last checkpoint."""
        return self.store.scan(first, last)

    def scan(
        self, first: bytes = b'', last: bytes | None = None, over: Changes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values in key order, `first` included, `last` not.

        Args:
            over: What an event has written and is not applied yet.
        """
        newer = {key: self._newest(key) for key in self._changed(first, last)}
        for key, value in (over or {}).items():
            if key >= first and (last is None or key < last):
                newer[key] = value
        if not newer:
            yield from self.store.scan(first, last)
            return
        fresh = iter(sorted(newer.items()))
        upper = next(fresh, None)
        for key, value in self.store.scan(first, last):
            while upper is not None and upper[0] < key:
                if upper[1] is not None:
                    yield upper[0], upper[1]
                upper = next(fresh, None)
            if key not in newer:
                yield key, value
        while upper is not None:
            if upper[1] is not None:
                yield upper[0], upper[1]
            upper = next(fresh, None)

    def first_key(self, first: bytes, last: bytes) -> bytes | None:
        """Return the first key of a scan, at the cost of that only; None without one."""
        changed = self._changed(first, last)
        fresh = next((key for key in changed if self._newest(key) is not None), None)
        start, count = first, 1
        while True:
            rows = self.store.head(start, last if fresh is None else fresh, count)
            for key, _ in rows:
                if key not in self._applied and key not in self._flushing:
                    return key
            if len(rows) < count:
                return fresh
            start, count = rows[-1][0] + b'\0', count * 4

    def _newest(self, key: bytes) -> bytes | None:
        return self._applied[key] if key in self._applied else self._flushing[key]

    def _changed(self, first: bytes, last: bytes | None) -> list[bytes]:
        """Return in order the keys of what is not committed."""
        if self._order is None:
            self._order = sorted({**self._flushing, **self._applied})
        order = self._order
        end = len(order) if last is None else bisect_left(order, last)
        return order[bisect_left(order, first) : end]

    def __len__(self) -> int:
        newer = {**self._flushing, **self._applied}
        change = sum(
            (value is not None) - (self.store.get(key) is not None) for key, value in newer.items()
        )
        return len(self.store) + change

    def apply(self, changes: Changes) -> None:
        """Take over what an event has written."""
        if self._order is not None:
            for key in changes:
                if key not in self._applied and key not in self._flushing:
                    insort(self._order, key)
        self._applied.update(changes)

    def log_all(self) -> None:
        """Log all that the store has with the next checkpoint: its changelog does not have it."""
        changed = {**self._flushing, **self._applied}
        self.apply({key: value for key, value in self.store.scan() if key not in changed})

    @property
    def dirty(self) -> bool:
        """Whether there is something to commit."""
        return bool(self._applied or self._flushing)

    def take(self) -> Changes:
        """Begin a checkpoint: return what has changed since the last one."""
        if self._flushing:  # the last one has failed
            self._flushing.update(self._applied)
        else:
            self._flushing = self._applied
        self._applied = {}
        return self._flushing

    def settle(self, position: bytes) -> None:
        """End a checkpoint: what was taken is committed at `position` of the changelog."""
        self.store.write(self._flushing, position)
        self._settled()

    async def settle_aside(self, position: bytes) -> None:
        """As `settle`; many changes are written in a thread, and read from here meanwhile."""
        await self._write(self._flushing, position)
        self._settled()

    def _settled(self) -> None:
        changes, self._flushing = self._flushing, {}
        self._order = None
        size = sum([len(value) for value in changes.values() if value is not None])
        # What they replace is counted still: so the cache is rather emptied too early.
        self._cached_bytes += size
        if len(self._cache) + len(changes) > CACHE_LIMIT or self._cached_bytes > CACHE_BYTES:
            self._empty_cache()
        if size <= CACHE_BYTES:
            self._cache.update(changes)
            for key in [key for key, value in changes.items() if value is None]:
                del self._cache[key]  # what has ended is hardly asked for, as a window

    async def restore(self, changes: Changes, position: bytes) -> None:
        """Take over what the changelog says, while recovering."""
        await self._write(changes, position)
        self._empty_cache()

    async def _write(self, changes: Changes, position: bytes) -> None:
        if len(changes) < ASIDE:
            self.store.write(changes, position)
            return
        writing = asyncio.ensure_future(asyncio.to_thread(self.store.write, changes, position))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait({writing})  # nothing can stop it, and no other may overtake it
            writing.exception()  # seen; what was taken is in the next checkpoint
            raise

    def close(self) -> None:
        """Let go of the store."""
        self.store.close()
