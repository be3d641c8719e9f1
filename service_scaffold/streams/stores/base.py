"""The port: ordered bytes to bytes, with a position that is written with the data.

A store is a cache of a changelog. It may be lost and is then built again, but it must never
disagree with its own position, so data and position go into one atomic write.
"""

from __future__ import annotations

import difflib
import importlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from service_scaffold import errors

SCHEMES: dict[str, str] = {
    'memory': 'service_scaffold.streams.stores.memory:MemoryBackend',
    'sqlite': 'service_scaffold.streams.stores.sqlite:SqliteBackend',
    'rocksdb': 'service_scaffold.streams.stores.rocksdb:RocksBackend',
}
"""Scheme to `module:class`, imported on use. The class is called with the directory."""

_EXTRAS = {'rocksdict': 'rocksdb'}


class Store(ABC):
    """The state of one table partition on this worker.

    `write`, `wipe` and `close` may run in a thread while others read: a reader sees a write whole
    or not at all, key by key with `get`, and from one moment with `scan`. Every method raises
    `StoreError` once the store is closed, and `StoreDamaged` if the data turn out to be
    unreadable: the files were then moved aside, and opening again gives an empty store.
    """

    @property
    @abstractmethod
    def position(self) -> bytes | None:
        """What the last write stored with its data, None in an empty or new store."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether `close` was called, or the store closed itself because it is damaged."""

    @abstractmethod
    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, None if it has none."""

    @abstractmethod
    def scan(self, first: bytes = b'', last: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over keys and values with `first <= key < last` in the order of the keys.

        Args:
            last: The first key that is left out; None means up to the end.

        The rows are those of the moment of the call, whatever is written meanwhile. If the store
        is closed on the way, the iterator raises `StoreError` instead of ending early.
        """

    def head(self, first: bytes, last: bytes | None, count: int) -> list[tuple[bytes, bytes]]:
        """Return the first `count` rows of a scan, at the cost of those only."""
        return list(islice(self.scan(first, last), count))

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of keys; it is kept with the data, so this is cheap."""

    @abstractmethod
    def write(self, changes: Mapping[bytes, bytes | None], position: bytes) -> None:
        """Store `changes` and `position` in one atomic write; None deletes a key.

        When this returns, the write survives a SIGKILL of the process. After a crash of the
        machine the store may be at an earlier position, with the data of that position.

        Args:
            changes: Must not be altered until this returns.

        Raises:
            TypeError: A key, value or position is not `bytes`; nothing was written.
            StoreError: The write failed, for instance on a full disk; nothing was written.
        """

    @abstractmethod
    def wipe(self) -> None:
        """Remove all data and the position; the store stays open."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and memory. A second call does nothing."""

    def __bool__(self) -> bool:
        return True  # `len` would make an empty store false


class Backend(ABC):
    """Opens the stores of one worker. Methods may be called from any thread.

    Subclasses implement `_open` and `_drop`.
    """

    def __init__(self) -> None:
        self._stores: dict[tuple[str, int], Store | None] = {}  # None while it is being opened
        self._lock = threading.Lock()

    def open(self, table: str, partition: int) -> Store:
        """Return the store of a table partition, with what was written there before.

        Files that are damaged, of another format version or not ours are moved aside to
        `*.damaged-N` with one warning, and an empty store is returned.

        Raises:
            StoreError: It is open already, here or in another process, or cannot be opened.
        """
        key = table, partition
        self._reserve(key)
        store = None
        try:
            try:
                store = self._open(table, partition)
            except errors.StoreDamaged:  # moved aside by now
                store = self._open(table, partition)
            return store
        finally:
            with self._lock:
                del self._stores[key]
                if store is not None:
                    self._stores[key] = store

    def drop(self, table: str, partition: int) -> None:
        """Remove the store of a table partition, also if there is none.

        Raises:
            StoreError: It is open, or its files cannot be removed.
        """
        key = table, partition
        self._reserve(key)
        try:
            self._drop(table, partition)
        finally:
            with self._lock:
                del self._stores[key]

    @property
    def in_use(self) -> list[tuple[str, int]]:
        """Tables and partitions whose stores are open."""
        with self._lock:
            stores = list(self._stores.items())
        return [key for key, store in stores if store is not None and not store.closed]

    def close(self) -> None:
        """Close all stores, which may be opened again. A second call does nothing."""
        with self._lock:
            stores = [store for store in self._stores.values() if store is not None]
            self._stores = {key: None for key, store in self._stores.items() if store is None}
        for store in stores:
            store.close()

    def _reserve(self, key: tuple[str, int]) -> None:
        with self._lock:
            if key in self._stores:
                store = self._stores[key]
                if store is None or not store.closed:
                    raise errors.StoreError(
                        f'The store of {key[0]!r} partition {key[1]} is in use; close it first'
                    )
            self._stores[key] = None

    @abstractmethod
    def _open(self, table: str, partition: int) -> Store: ...

    @abstractmethod
    def _drop(self, table: str, partition: int) -> None: ...


def register(scheme: str, target: str) -> None:
    """Make `scheme://` URLs open the backend class at `module:class`."""
    SCHEMES[scheme] = target


def open_backend(url: str, directory: Path) -> Backend:
    """Return the backend of `url`, which keeps its files, if any, in `directory`.

    Args:
        url: `memory://`, `sqlite://` or `rocksdb://`, nothing behind.
        directory: Made when it is missing. One worker only: see `claim`.

    Raises:
        ConfigError: The URL is not one of these, its package is not installed, or the directory
            cannot be made.
    """
    scheme, separator, rest = url.partition('://')
    if not separator or scheme not in SCHEMES:
        raise errors.ConfigError(_unknown(url, scheme))
    if rest.strip('/'):
        raise errors.ConfigError(
            f'The store URL {scheme}:// takes no path; stores are kept in the data directory'
        )
    module, _, name = SCHEMES[scheme].partition(':')
    try:
        backend: type[Backend] = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or '').partition('.')[0])
        if extra is None:
            raise
        raise errors.ConfigError(
            f'{scheme}:// needs the package {error.name!r}: pip install service-scaffold[{extra}]'
        ) from error
    return backend(directory)  # type: ignore[call-arg]  # the promise of SCHEMES


def _unknown(url: str, scheme: str) -> str:
    known = ', '.join(f'{name}://' for name in sorted(SCHEMES))
    close = difflib.get_close_matches(scheme, list(SCHEMES), n=1)
    hint = f'; did you mean {close[0]}://?' if close else ''
    # What follows the scheme of a foreign URL may hold a password.
    shown = f'{scheme}://' if '://' in url else scheme
    return f'No store for the URL {shown!r}; known are: {known}{hint}'
