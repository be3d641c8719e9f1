"""The file of a SQLite store: how it is made, opened and checked.

WAL, so that readers and the writer do not wait for each other. `synchronous=NORMAL`: a commit is
in the page cache of the system and survives the process; a crash of the machine may take the
last commits, whole ones, and never damages the file. `OFF` would save two fsyncs a checkpoint,
which are 16 MiB apart, and risk the file.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service_scaffold import errors

FORMAT = 1
"""Version of the layout of the file; files of another version are moved aside."""

_APPLICATION = 0x53735374  # 'SsSt', in the header of each file of ours
_MAGIC = b'SQLite format 3\0'
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
_CHECK_S = 1.0
_BUSY_S = 5.0


class Damage(sqlite3.DatabaseError):
    """SQLite can read the file, but it is not what we have written."""


def connect(path: Path) -> sqlite3.Connection:
    """Return one more connection to a file that was opened, for any thread, in autocommit."""
    connection = _connect(path)
    try:
        _configure(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_file(path: Path) -> sqlite3.Connection:
    """Return a connection to a sound file of ours, made if there is none.

    Raises:
        Damage: It is something else.
        sqlite3.Error: SQLite cannot read it.
        StoreError: The system does not let us.
    """
    _look_at(path)
    connection = _connect(path)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)


def _configure(connection: sqlite3.Connection) -> None:
    for setting in _SETTINGS:
        connection.execute(setting)


def _look_at(path: Path) -> None:
    """Raise for what SQLite would take for an empty database, or not tell from a missing one."""
    if path.is_dir():
        raise Damage('not a file')
    try:
        with path.open('rb') as file:
            head = file.read(len(_MAGIC))
    except FileNotFoundError:
        return
    except OSError as error:
        raise errors.StoreError(f'Cannot read {path}: {error.strerror}') from error
    if head not in (b'', _MAGIC):
        raise Damage('not a database')


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the tables in a new file; find out whether an old one is ours and sound."""
    application, version = (
        connection.execute(f'PRAGMA {name}').fetchone()[0]
        for name in ('application_id', 'user_version')
    )
    (tables,) = connection.execute('SELECT count(*) FROM sqlite_schema').fetchone()
    new = not (application or version or tables)
    if not new and application != _APPLICATION:
        raise Damage('it belongs to another program')
    _configure(connection)  # not before: this changes the file
    if new:
        with transaction(connection):
            for statement in _SCHEMA:
                connection.execute(statement)
    elif version != FORMAT:
        raise Damage(f'it has the format version {version}, not {FORMAT}')
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
            raise Damage(finding)
    finally:
        connection.set_progress_handler(None, 0)


def read_state(connection: sqlite3.Connection) -> tuple[bytes | None, int]:
    """Return position and number of keys.

    Raises:
        Damage: They are not there.
    """
    try:
        row = connection.execute('SELECT position, keys FROM state').fetchone()
        connection.execute('SELECT value FROM data WHERE key = ?', (b'',))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        raise Damage(str(error)) from error  # a table is missing
    if row is None:
        raise Damage('it has no position')
    return row[0], row[1]


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done within, or nothing of it."""
    connection.execute('BEGIN IMMEDIATE')
    try:
        yield
        connection.execute('COMMIT')
    except BaseException:
        if connection.in_transaction:  # SQLite may have rolled back itself, on a full disk
            connection.execute('ROLLBACK')
        raise
