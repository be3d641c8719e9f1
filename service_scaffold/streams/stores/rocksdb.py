"""Stores in RocksDB: one directory a table partition; the package `rocksdict` (extra `rocksdb`).

Faster than SQLite for large batches and large tables. The binding does not let go of the
interpreter while it writes a batch, so a batch of 100 000 keys in a thread still holds up the
event loop for 0.1 to 0.2 s; where that matters, write more often.
"""

from __future__ import annotations

import struct
import threading
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import rocksdict

from service_scaffold import errors
from service_scaffold.streams.stores import files
from service_scaffold.streams.stores.base import Backend, Store

FORMAT = 1
"""Version of the layout of the keys; directories of another version are moved aside."""

_SUFFIX = '.rocksdb'
_STATE = b'\0'  # sorts before all data
_DATA = b'\1'
_DATA_END = b'\2'
_HEADER = struct.Struct('>H?Q')  # format, whether there is a position, number of keys
_CHUNK = 1_000
_BLOCK_CACHE_BYTES = 64 << 20  # these two are shared by all stores of the backend
_WRITE_BUFFERS_BYTES = 128 << 20
_WRITE_BUFFER_BYTES = 16 << 20


class RocksBackend(Backend):
    """Keeps `{table}-{partition}.rocksdb` in `directory`; the stores share their caches.

    Raises:
        ConfigError: The directory cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        files.make_directory(directory)
        self._directory = directory
        self._options = _options()

    def _open(self, table: str, partition: int) -> Store:
        return RocksStore(self._path(table, partition), self._options)

    def _drop(self, table: str, partition: int) -> None:
        files.remove(self._path(table, partition))

    def _path(self, table: str, partition: int) -> Path:
        return files.store_path(self._directory, table, partition, _SUFFIX)


class RocksStore(Store):
    """One database; data and state lie in it under two prefixes.

    Raises:
        StoreDamaged: The directory is unreadable or not ours, and was moved aside.
        StoreError: It cannot be opened for another reason.
    """

    def __init__(self, path: Path, options: rocksdict.Options) -> None:
        self._path = path
        self._db: rocksdict.Rdict | None = None
        self._writing = threading.Lock()
        self._fetching = threading.Lock()
        self._cursors: weakref.WeakSet[_Cursor] = weakref.WeakSet()
        try:
            if path.exists() and not path.is_dir():
                raise _Damage('not a directory')
            self._db = rocksdict.Rdict(str(path), options)
            self._position, self._keys = _read_state(self._db)
        except Exception as error:
            failure = self._failure(error, opening=True)
            self.close()
            raise failure from error

    @property
    def position(self) -> bytes | None:
        self._opened()
        return self._position

    @property
    def closed(self) -> bool:
        return self._db is None

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._opened().get(_DATA + key)
        except Exception as error:
            raise self._failure(error) from error
        return value

    def scan(self, first: bytes = b'', last: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        try:
            end = _DATA_END if last is None else _DATA + last
            with self._fetching:
                cursor = _Cursor(self._opened(), _DATA + first, end)
                self._cursors.add(cursor)
                return self._rows(cursor, cursor.fetch())
        except Exception as error:
            raise self._failure(error) from error

    def __len__(self) -> int:
        self._opened()
        return self._keys

    def write(self, changes: Mapping[bytes, bytes | None], position: bytes) -> None:
        try:
            with self._writing:
                db = self._opened()
                batch = rocksdict.WriteBatch(raw_mode=True)
                for key, value in changes.items():
                    if value is None:
                        batch.delete(_DATA + key)
                    else:
                        batch.put(_DATA + key, value)
                keys = self._keys + _growth(db, changes)
                batch.put(_STATE, _HEADER.pack(FORMAT, True, keys) + position)
                db.write(batch)
                self._position, self._keys = position, keys
        except Exception as error:
            raise self._failure(error) from error

    def wipe(self) -> None:
        try:
            with self._writing:
                db = self._opened()
                batch = rocksdict.WriteBatch(raw_mode=True)
                batch.delete_range(_DATA, _DATA_END)
                batch.put(_STATE, _HEADER.pack(FORMAT, False, 0))
                db.write(batch)
                self._position, self._keys = None, 0
                db.compact_range(None, None)  # a scan would pass all that was deleted
        except Exception as error:
            raise self._failure(error) from error

    def close(self) -> None:
        with self._writing, self._fetching:
            db, self._db = self._db, None
            # A cursor keeps the lock of the directory.
            for cursor in list(self._cursors):
                cursor.close()
            if db is not None:
                db.close()

    def _opened(self) -> rocksdict.Rdict:
        db = self._db
        if db is None:
            raise errors.StoreError(f'{self._path} is closed')
        return db

    def _rows(
        self, cursor: _Cursor, rows: list[tuple[bytes, bytes]]
    ) -> Iterator[tuple[bytes, bytes]]:
        while rows:
            yield from rows
            try:
                with self._fetching:
                    self._opened()
                    rows = cursor.fetch()
            except Exception as error:
                raise self._failure(error) from error

    def _failure(self, error: Exception, *, opening: bool = False) -> Exception:
        """Return what to raise for `error`; if it means damage, the files are out of the way.

        The binding raises plain `Exception` with the text of RocksDB's status.
        """
        if isinstance(error, errors.StoreError | TypeError):
            return error
        if isinstance(error, ValueError | KeyError):
            return TypeError(f'Keys and values are bytes: {error}')
        if isinstance(error, rocksdict.DbClosedError):
            return errors.StoreError(f'{self._path} is closed')
        text = str(error)
        if isinstance(error, _Damage) or text.startswith(_DAMAGE + (_AT_OPEN if opening else ())):
            self.close()
            reason = text.partition('\n')[0]
            files.move_aside(self._path, reason)
            return errors.StoreDamaged(f'{self._path} was damaged: {reason}')
        return errors.StoreError(f'{self._path}: {text}')


class _Damage(Exception):
    """RocksDB can read the directory, but it is not what we have written."""


_DAMAGE = ('Corruption:', 'IO error: No such file or directory')
_AT_OPEN = ('Invalid argument:',)


class _Cursor:
    """Reads on in one snapshot, chunk by chunk, and can be cut off from the database."""

    def __init__(self, db: rocksdict.Rdict, first: bytes, last: bytes) -> None:
        # The iterator only borrows the bound from the options: they must live as long.
        self._options = rocksdict.ReadOptions()
        self._options.set_iterate_upper_bound(last)
        # Not `items()`: that ends at a damaged block as if there were no more rows.
        self._rows: rocksdict.RdictIter | None = db.iter(self._options)
        self._rows.seek(first)

    def fetch(self) -> list[tuple[bytes, bytes]]:
        """Return the next rows, none at the end."""
        # No local name for the iterator: the traceback of an error would keep it, and that the
        # lock of the directory, while the caller opens the store anew.
        assert self._rows is not None
        chunk: list[tuple[bytes, bytes]] = []
        while len(chunk) < _CHUNK and self._rows.valid():
            chunk.append((self._rows.key()[1:], self._rows.value()))
            self._rows.next()
        self._rows.status()
        return chunk

    def close(self) -> None:
        self._rows = None


def _read_state(db: rocksdict.Rdict) -> tuple[bytes | None, int]:
    """Return position and number of keys; make them in a new database."""
    state = db.get(_STATE)
    if state is None:
        if next(iter(db.keys()), None) is not None:
            raise _Damage('it belongs to another program')
        db.put(_STATE, _HEADER.pack(FORMAT, False, 0))
        return None, 0
    if len(state) < _HEADER.size:
        raise _Damage('its state is cut off')
    version, has_position, keys = _HEADER.unpack_from(state)
    if version != FORMAT:
        raise _Damage(f'it has the format version {version}, not {FORMAT}')
    return (state[_HEADER.size :] if has_position else None), keys


def _growth(db: rocksdict.Rdict, changes: Mapping[bytes, bytes | None]) -> int:
    """Return by how many the keys will be more."""
    # In order and many at once, this is three times as fast as asking for one after the other.
    keys: list[Any] = sorted(_DATA + key for key in changes)
    growth = len(keys) - list(changes.values()).count(None)
    for start in range(0, len(keys), _CHUNK):
        part = keys[start : start + _CHUNK]
        values: Any = db.get(part)
        growth -= len(part) - values.count(None)
    return growth


def _options() -> rocksdict.Options:
    table = rocksdict.BlockBasedOptions()
    table.set_block_cache(rocksdict.Cache(_BLOCK_CACHE_BYTES))
    table.set_bloom_filter(10, False)
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_write_buffer_manager(
        rocksdict.WriteBufferManager(_WRITE_BUFFERS_BYTES, allow_stall=False)
    )
    # A new key is looked up before it is written: without a filter that costs ten times as much.
    options.set_memtable_prefix_bloom_ratio(0.02)
    options.set_memtable_whole_key_filtering(True)
    options.set_keep_log_file_num(2)
    return options
