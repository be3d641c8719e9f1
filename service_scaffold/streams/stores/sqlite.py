"""Stores in SQLite: one file a table partition, nothing to install.

WAL, so that readers and the writer do not wait for each other: they have a connection each.
`synchronous=NORMAL`: a commit is in the page cache of the system and survives the process; a
crash of the machine may take the last commits, whole ones, and never damages the file. `OFF` was
not measurably faster with the checkpoints this far apart, and would risk the file.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path

from service_scaffold import errors
from service_scaffold.streams.stores import files
from service_scaffold.streams.stores.base import Backend, Store

FORMAT = 1
"""Version of the layout of the file; files of another version are moved aside."""

_APPLICATION = 0x53735374  # 'SsSt', in the header of each file of ours
_MAGIC = b'SQLite format 3\0'
_SUFFIX = '.sqlite'
_COMPANIONS = ('-wal', '-shm')
_SETTINGS = (
    'PRAGMA journal_mode=WAL',
    'PRAGMA synchronous=NORMAL',
    'PRAGMA cache_size=-8192',  # KiB at most, a connection
    'PRAGMA wal_autocheckpoint=4000',  # 16 MiB: a page that changes often is copied back once
)
_SCHEMA = (
    f'PRAGMA application_id={_APPLICATION}',
    f'PRAGMA user_version={FORMAT}',
    'CREATE TABLE data (key BLOB PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID',
    'CREATE TABLE state (position BLOB, keys INTEGER NOT NULL) STRICT',
    'INSERT INTO state VALUES (NULL, 0)',
)
_GET = 'SELECT value FROM data WHERE key = ?'
_SCAN = 'SELECT key, value FROM data WHERE key >= ? ORDER BY key'
_SCAN_UNTIL = 'SELECT key, value FROM data WHERE key >= ? AND key < ? ORDER BY key'
_MOVE_ON = 'UPDATE state SET position = ?, keys = ? WHERE position IS ? AND keys = ?'

_CHUNK = 1_000
_ROWS = 100  # of one statement; a quarter faster than one row each, more gains nothing
_CHECK_S = 1.0
_BUSY_S = 5.0


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
        path = self._path(table, partition)
        try:
            return SqliteStore(path)
        except errors.StoreDamaged:  # moved aside by now
            return SqliteStore(path)

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
            _look_at(path)
            self._writer = self._connect()
            _prepare(self._writer)
            self._position, self._keys = _read_state(self._writer)
            self._reader = self._connect()
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
        query, bounds = (_SCAN, (first,)) if last is None else (_SCAN_UNTIL, (first, last))
        try:
            with self._reading:
                # Most scans are short: these cost no connection of their own.
                rows = self._reader.execute(f'{query} LIMIT {_CHUNK}', bounds).fetchall()
        except sqlite3.Error as error:
            raise self._failure(error) from error
        if len(rows) < _CHUNK:
            return iter(rows)
        scan = self._long_scan(query, bounds)
        next(scan)  # takes the snapshot now
        return scan

    def __len__(self) -> int:
        self._check_open()
        return self._keys

    def write(self, changes: Mapping[bytes, bytes | None], position: bytes) -> None:
        if not isinstance(position, bytes):
            raise TypeError(f'A position is bytes, got {type(position)}')
        try:
            with self._writing:
                with _transaction(self._writer):
                    keys = self._keys + _apply(self._writer, changes)
                    self._move_on(position, keys)
                self._position, self._keys = position, keys
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def wipe(self) -> None:
        try:
            with self._writing:
                with _transaction(self._writer):
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

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        self._connections.append(connection)
        for setting in _SETTINGS:
            connection.execute(setting)
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
                connection = self._connect()
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
        if isinstance(error, _Damage) or code in _UNREADABLE or code & 0xFF in _UNREADABLE:
            self.close()
            files.move_aside(self._path, str(error), _COMPANIONS)
            return errors.StoreDamaged(f'{self._path} was damaged: {error}')
        return errors.StoreError(f'{self._path}: {error}')


class _Damage(sqlite3.DatabaseError):
    """SQLite can read the file, but it is not what we have written."""


_MISTYPED = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError)
_UNREADABLE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR_SHORT_READ}


def _look_at(path: Path) -> None:
    """Raise for what SQLite would take for an empty database, or not tell from a missing one."""
    if path.is_dir():
        raise _Damage('not a file')
    try:
        with path.open('rb') as file:
            head = file.read(len(_MAGIC))
    except FileNotFoundError:
        return
    except OSError as error:
        raise errors.StoreError(f'Cannot read {path}: {error.strerror}') from error
    if head not in (b'', _MAGIC):
        raise _Damage('not a database')


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the tables in a new file; find out whether an old one is ours and sound."""
    application, version = (
        connection.execute(f'PRAGMA {name}').fetchone()[0]
        for name in ('application_id', 'user_version')
    )
    (tables,) = connection.execute('SELECT count(*) FROM sqlite_schema').fetchone()
    if not (application or version or tables):
        with _transaction(connection):
            for statement in _SCHEMA:
                connection.execute(statement)
    elif application != _APPLICATION:
        raise _Damage('it belongs to another program')
    elif version != FORMAT:
        raise _Damage(f'it has the format version {version}, not {FORMAT}')
    else:
        _inspect(connection)


def _inspect(connection: sqlite3.Connection) -> None:
    """Check the pages of the file, as far as that goes in a second.

    What is found later is found by the one who reads it, as `StoreDamaged`.
    """
    deadline = time.monotonic() + _CHECK_S
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
    try:
        (finding,) = connection.execute('PRAGMA quick_check(1)').fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
    else:
        if finding != 'ok':
            raise _Damage(finding)
    finally:
        connection.set_progress_handler(None, 0)


def _read_state(connection: sqlite3.Connection) -> tuple[bytes | None, int]:
    try:
        row = connection.execute('SELECT position, keys FROM state').fetchone()
        connection.execute(_GET, (b'',))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        raise _Damage(str(error)) from error  # a table is missing
    if row is None:
        raise _Damage('it has no position')
    return row[0], row[1]


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute('BEGIN IMMEDIATE')
    try:
        yield
        connection.execute('COMMIT')
    except BaseException:
        if connection.in_transaction:  # SQLite may have rolled back itself, on a full disk
            connection.execute('ROLLBACK')
        raise


def _apply(connection: sqlite3.Connection, changes: Mapping[bytes, bytes | None]) -> int:
    """Make the changes in the order of the keys; return by how many the keys are more."""
    # In order, each page of the tree is visited once.
    rows = sorted((key, value) for key, value in changes.items() if value is not None)
    gone = sorted((key,) for key, value in changes.items() if value is None)
    more = 0
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        values = list(chain.from_iterable(part))
        insert, upsert = _statements(len(part))
        inserted = connection.execute(insert, values).rowcount
        if inserted < len(part):
            connection.execute(upsert, values)
        more += inserted
    if gone:
        more -= connection.executemany('DELETE FROM data WHERE key = ?', gone).rowcount
    return more


@lru_cache(maxsize=_ROWS)
def _statements(rows: int) -> tuple[str, str]:
    """Return the text that inserts what is new among `rows` rows, and the one that stores all."""
    insert = 'INSERT INTO data VALUES ' + ','.join(['(?, ?)'] * rows) + ' ON CONFLICT (key) DO '
    return insert + 'NOTHING', insert + 'UPDATE SET value = excluded.value'
