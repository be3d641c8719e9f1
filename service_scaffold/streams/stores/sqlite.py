"""Stores in SQLite: one file a table partition, nothing to install.

Readers and the writer do not wait for each other: they have a connection each, and the library
lets go of the interpreter while it works, so a write in a thread leaves the event loop alone.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from service_scaffold import errors
from service_scaffold.streams.stores import files, sqlite_file
from service_scaffold.streams.stores.base import Backend, Store

_GET = 'SELECT value FROM data WHERE key = ?'
_SCAN = 'SELECT key, value FROM data WHERE key >= ? ORDER BY key'
_SCAN_UNTIL = 'SELECT key, value FROM data WHERE key >= ? AND key < ? ORDER BY key'
_DELETE = 'DELETE FROM data WHERE key = ?'
_MOVE_ON = 'UPDATE state SET position = ?, keys = ? WHERE position IS ? AND keys = ?'

_CHUNK = 1_000
_SUFFIX = '.sqlite'
_COMPANIONS = ('-wal', '-shm')

Row = tuple[bytes, bytes]


class SqliteBackend(Backend):
    """Keeps `{table}-{partition}.sqlite` in `directory`.

    Raises:
        ConfigError: The directory cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        files.make_directory(directory)
        self._directory = directory

    def _open(self, table: str, partition: int) -> Store:
        return SqliteStore(self._path(table, partition))

    def _drop(self, table: str, partition: int) -> None:
        files.remove(self._path(table, partition), _COMPANIONS)

    def _path(self, table: str, partition: int) -> Path:
        return files.store_path(self._directory, table, partition, _SUFFIX)


class SqliteStore(Store):
    """One file, a connection to write, one to read, and one for each long scan under way.

    Raises:
        StoreDamaged: The file is unreadable or not ours, and was moved aside.
        StoreError: It cannot be opened for another reason.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing = threading.Lock()
        # Reentrant: the collector may end a forgotten scan while this thread is in `get`.
        self._reading = threading.RLock()
        self._connections: list[sqlite3.Connection] = []
        self._closed = False
        try:
            self._writer = self._keep(sqlite_file.open_file(path))
            self._position, self._keys = sqlite_file.read_state(self._writer)
            self._reader = self._keep(sqlite_file.connect(path))
        except sqlite3.Error as error:
            failure = self._failure(error)
            self.close()
            raise failure from error

    @property
    def position(self) -> bytes | None:
        self._check_open()
        return self._position

    @property
    def closed(self) -> bool:
        return self._closed

    def get(self, key: bytes) -> bytes | None:
        try:
            with self._reading:
                row = self._reader.execute(_GET, (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._failure(error) from error
        return None if row is None else row[0]

    def scan(self, first: bytes = b'', last: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        # Most scans are short: these cost no connection of their own.
        rows = self.head(first, last, _CHUNK)
        if len(rows) < _CHUNK:
            return iter(rows)
        scan = self._long_scan(*_query(first, last))
        next(scan)  # takes the snapshot now
        return scan

    def head(self, first: bytes, last: bytes | None, count: int) -> list[tuple[bytes, bytes]]:
        query, bounds = _query(first, last)
        try:
            with self._reading:
                return self._reader.execute(f'{query} LIMIT ?', (*bounds, count)).fetchall()
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def __len__(self) -> int:
        self._check_open()
        return self._keys

    def write(self, changes: Mapping[bytes, bytes | None], position: bytes) -> None:
        if not isinstance(position, bytes):
            raise TypeError(f'A position is bytes, got {type(position)}')
        try:
            with self._writing:
                with sqlite_file.transaction(self._writer):
                    keys = self._keys + _apply(self._writer, changes)
                    self._move_on(position, keys)
                self._position, self._keys = position, keys
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def wipe(self) -> None:
        try:
            with self._writing:
                with sqlite_file.transaction(self._writer):
                    self._writer.execute('DELETE FROM data')
                    self._move_on(None, 0)
                self._position, self._keys = None, 0
                self._writer.execute('VACUUM')
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def close(self) -> None:
        self._closed = True
        # Never under the feet of a thread that reads or writes; the last one to be closed
        # copies the WAL back and removes it.
        with self._reading, self._writing:
            while self._connections:
                self._connections.pop().close()

    def _keep(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        self._connections.append(connection)
        return connection

    def _move_on(self, position: bytes | None, keys: int) -> None:
        """Store the new position, if nobody else has moved it."""
        old = self._position, self._keys
        if self._writer.execute(_MOVE_ON, (position, keys, *old)).rowcount != 1:
            raise errors.StoreError(f'{self._path} was written by another process')

    def _long_scan(self, query: str, bounds: tuple[bytes, ...]) -> Iterator[tuple[bytes, bytes]]:
        """Yield a row of no meaning once the snapshot is taken, then the rows."""
        connection = None
        try:
            with self._reading:
                self._check_open()
                connection = self._keep(sqlite_file.connect(self._path))
                cursor = connection.execute(query, bounds)
                rows = cursor.fetchmany(_CHUNK)
            yield b'', b''
            while rows:
                yield from rows
                with self._reading:
                    rows = cursor.fetchmany(_CHUNK)
        except sqlite3.Error as error:
            raise self._failure(error) from error
        finally:
            with self._reading:
                if connection in self._connections:
                    self._connections.remove(connection)
                    connection.close()

    def _check_open(self) -> None:
        if self._closed:
            raise errors.StoreError(f'{self._path} is closed')

    def _failure(self, error: sqlite3.Error) -> Exception:
        """Return what to raise for `error`; if it means damage, the file is out of the way."""
        if self._closed:
            return errors.StoreError(f'{self._path} is closed')
        code = getattr(error, 'sqlite_errorcode', 0)
        if isinstance(error, _MISTYPED):
            return TypeError(f'Keys and values are bytes: {error}')
        if (
            isinstance(error, sqlite_file.Damage)
            or code in _UNREADABLE
            or code & 0xFF in _UNREADABLE
        ):
            self.close()
            files.move_aside(self._path, str(error), _COMPANIONS)
            return errors.StoreDamaged(f'{self._path} was damaged: {error}')
        return errors.StoreError(f'{self._path}: {error}')


_MISTYPED = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError)
_UNREADABLE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR_SHORT_READ}


def _apply(connection: sqlite3.Connection, changes: Mapping[bytes, bytes | None]) -> int:
    """Make the changes; return by how many the keys are more."""
    more = 0
    keys = sorted(changes)  # in order, each page of the tree is visited once
    rows = [(key, value) for key in keys if (value := changes[key]) is not None]
    for part in _parts(rows):
        values = list(chain.from_iterable(part))
        insert, upsert = _STATEMENTS[len(part)]
        inserted = connection.execute(insert, values).rowcount
        if inserted < len(part):
            connection.execute(upsert, values)
        more += inserted
    if len(rows) < len(keys):
        gone = [(key,) for key in keys if changes[key] is None]
        more -= connection.executemany(_DELETE, gone).rowcount
    return more


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Yield all rows, as many at once as one of the statements takes."""
    start = 0
    for size in _STATEMENTS:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


def _texts(rows: int) -> tuple[str, str]:
    """Return the text that inserts what is new among `rows` rows, and the one that stores all."""
    insert = 'INSERT INTO data VALUES ' + ','.join(['(?, ?)'] * rows) + ' ON CONFLICT (key) DO '
    return insert + 'NOTHING', insert + 'UPDATE SET value = excluded.value'


_STATEMENTS = {rows: _texts(rows) for rows in (512, 128, 32, 8, 2, 1)}
"""Statements by how many rows they take, the largest first.

Large ones: each has to wait for the interpreter's lock, up to 5 ms while the event loop is busy.
Few, because each connection keeps what it has compiled: one for each count of rows took 2 MiB, and
compiled anew whenever a count had not come for a while.
"""


def _query(first: bytes, last: bytes | None) -> tuple[str, tuple[bytes, ...]]:
    return (_SCAN, (first,)) if last is None else (_SCAN_UNTIL, (first, last))
