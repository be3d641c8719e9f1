"""Stores that live as long as their backend: for tests, and for what is cheap to rebuild."""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from service_scaffold import errors
from service_scaffold.streams.stores.base import Backend, Store

_CHUNK = 1_000


class MemoryBackend(Backend):
    """Keeps the data of its stores; closing a store and opening it again loses nothing."""

    def __init__(self, directory: Path | None = None) -> None:
        super().__init__()
        self._contents: dict[tuple[str, int], _Contents] = {}

    def close(self) -> None:
        """Close all stores and forget their data."""
        super().close()
        self._contents.clear()

    def _open(self, table: str, partition: int) -> Store:
        return MemoryStore(self._contents.setdefault((table, partition), _Contents()))

    def _drop(self, table: str, partition: int) -> None:
        self._contents.pop((table, partition), None)


class MemoryStore(Store):
    """A dict, and its keys in order once somebody scans."""

    def __init__(self, contents: _Contents) -> None:
        self._contents: _Contents | None = contents
        self._lock = threading.Lock()

    @property
    def position(self) -> bytes | None:
        return self._held().position

    @property
    def closed(self) -> bool:
        return self._contents is None

    def get(self, key: bytes) -> bytes | None:
        return self._held().data.get(key)

    def scan(self, first: bytes = b'', last: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        with self._lock:
            contents = self._held()
            data = contents.data
            return self._rows([(key, data[key]) for key in contents.keys_between(first, last)])

    def head(self, first: bytes, last: bytes | None, count: int) -> list[tuple[bytes, bytes]]:
        with self._lock:
            contents = self._held()
            data = contents.data
            return [(key, data[key]) for key in islice(contents.keys_between(first, last), count)]

    def __len__(self) -> int:
        return len(self._held().data)

    def write(self, changes: Mapping[bytes, bytes | None], position: bytes) -> None:
        for key, value in changes.items():
            if not isinstance(key, bytes) or not (value is None or isinstance(value, bytes)):
                raise TypeError(f'Keys and values are bytes, got {type(key)}: {type(value)}')
        if not isinstance(position, bytes):
            raise TypeError(f'A position is bytes, got {type(position)}')
        with self._lock:
            self._held().apply(changes, position)

    def wipe(self) -> None:
        with self._lock:
            self._held().clear()

    def close(self) -> None:
        with self._lock:
            self._contents = None

    def _held(self) -> _Contents:
        contents = self._contents
        if contents is None:
            raise errors.StoreError('The store is closed')
        return contents

    def _rows(self, rows: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for row in rows:
            self._held()
            yield row


class _Contents:
    """Data, position, and an ordered list of keys that follows the data when it is asked.

    The list is in chunks, so that a new key moves a thousand pointers and not a million.
    """

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self.position: bytes | None = None
        self._chunks: list[list[bytes]] = []
        self._stale: set[bytes] = set()  # came or went since the chunks were made

    def apply(self, changes: Mapping[bytes, bytes | None], position: bytes) -> None:
        # A new dict in one assignment would cost O(n); these two steps are what `get` may see
        # between, and it looks at one key only.
        new = {key: value for key, value in changes.items() if value is not None}
        gone = [key for key, value in changes.items() if value is None and key in self.data]
        self._stale.update(gone)
        self._stale.update([key for key in new if key not in self.data])
        self.data.update(new)
        for key in gone:
            del self.data[key]
        self.position = position

    def clear(self) -> None:
        self.data = {}
        self.position = None
        self._chunks, self._stale = [], set()

    def keys_between(self, first: bytes, last: bytes | None) -> Iterator[bytes]:
        """Yield the keys with `first <= key < last` in order."""
        self._refresh()
        index = max(bisect_left(self._chunks, first, key=_head) - 1, 0)
        for chunk in self._chunks[index:]:
            if last is not None and chunk[0] >= last:
                return
            start = bisect_left(chunk, first)
            yield from chunk[start : None if last is None else bisect_left(chunk, last)]

    def _refresh(self) -> None:
        if len(self._stale) * 8 > len(self.data):
            keys = sorted(self.data)
            self._chunks = [keys[i : i + _CHUNK] for i in range(0, len(keys), _CHUNK)]
        else:
            for key in self._stale:
                self._mend(key)
        self._stale.clear()

    def _mend(self, key: bytes) -> None:
        """Bring one key into, or out of, the chunk it belongs to."""
        index = max(bisect_left(self._chunks, key + b'\0', key=_head) - 1, 0)
        chunk = self._chunks[index] if self._chunks else []
        at = bisect_left(chunk, key)
        listed = at < len(chunk) and chunk[at] == key
        if key in self.data and not listed:
            insort(chunk, key)
            if len(chunk) > 2 * _CHUNK:
                self._chunks[index : index + 1] = [chunk[:_CHUNK], chunk[_CHUNK:]]
        elif listed and key not in self.data:
            del chunk[at]
            if not chunk:
                del self._chunks[index]


def _head(chunk: list[bytes]) -> bytes:
    return chunk[0]
