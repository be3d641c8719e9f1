"""Files that are not what was written are moved aside, once, with a warning."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3

import pytest
import rocksdict

from service_scaffold import errors
from service_scaffold.streams.stores import base

ROWS = {b'%06d' % number: os.urandom(50) for number in range(20_000)}


def main_files(tmp_path):
    """Return the files that hold the rows of the one store there is."""
    return sorted(tmp_path.glob('*.sqlite')) or sorted(tmp_path.glob('*.rocksdb/*.sst'))


def written(open_durable, tmp_path):
    """Write a store, close it so that all rows are in its main files, return these."""
    store = open_durable().open('table', 0)
    store.write(ROWS, b'1')
    store.close()
    if not main_files(tmp_path):
        open_durable().open('table', 0).close()  # RocksDB makes its files from the log
    open_durable().close()
    return main_files(tmp_path)


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def empty_but_a_byte(path):
    path.write_bytes(b'x')


def overwrite_all(path):
    path.write_bytes(os.urandom(path.stat().st_size))


def overwrite_the_middle(path):
    with path.open('r+b') as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(20_000))


def use_it(store):
    """Read and write a store, as its caller does."""
    list(store.scan())
    store.write({b'k': b'v'}, b'1')


def check_replaced(open_durable, tmp_path, caplog):
    """The store opens empty, the old one lies beside it, and one line says so."""
    caplog.set_level(logging.INFO)
    backend = open_durable()
    try:
        store = backend.open('table', 0)
        use_it(store)
    except errors.StoreDamaged:
        store = backend.open('table', 0)
    state = len(store), store.position
    use_it(store)

    assert state in ((0, None), (1, b'1'))
    (aside,) = tmp_path.glob('table-0.*.damaged-1')
    (line,) = [r for r in caplog.records if r.name.startswith('service_scaffold')]
    assert line.levelno == logging.WARNING
    assert aside.name in line.getMessage()


@pytest.mark.parametrize('harm', [truncate, empty_but_a_byte, overwrite_all, overwrite_the_middle])
def test_harmed_files_are_moved_aside(open_durable, tmp_path, caplog, harm):
    """Whether that shows when the store is opened, or when it is first read."""
    for path in written(open_durable, tmp_path):
        harm(path)

    check_replaced(open_durable, tmp_path, caplog)


def test_another_format_version_is_moved_aside(open_durable, tmp_path, caplog):
    """A newer or older program has written it."""
    written(open_durable, tmp_path)
    if (tmp_path / 'table-0.sqlite').exists():
        connection = sqlite3.connect(tmp_path / 'table-0.sqlite')
        connection.execute('PRAGMA user_version=99')
        connection.close()
    else:
        with rocksdict.Rdict(str(tmp_path / 'table-0.rocksdb')) as database:
            database[b'\0'] = b'\0\x63' + database[b'\0'][2:]

    check_replaced(open_durable, tmp_path, caplog)
    assert 'format version 99' in caplog.text


def test_the_files_of_others_are_moved_aside(open_durable, durable_url, tmp_path, caplog):
    """A database of the right kind that we have not written is neither used nor destroyed."""
    if durable_url == 'sqlite://':
        connection = sqlite3.connect(tmp_path / 'table-0.sqlite')
        connection.execute('CREATE TABLE photographs (id)')
        connection.close()
    else:
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        with rocksdict.Rdict(str(tmp_path / 'table-0.rocksdb'), options) as database:
            database[b'photograph'] = b''

    check_replaced(open_durable, tmp_path, caplog)
    assert 'another program' in caplog.text


def test_a_directory_for_a_file_and_the_other_way_round(
    open_durable, durable_url, tmp_path, caplog
):
    """What stands in the place of a store is moved, whatever it is."""
    if durable_url == 'sqlite://':
        (tmp_path / 'table-0.sqlite').mkdir()
    else:
        (tmp_path / 'table-0.rocksdb').write_text('x')

    check_replaced(open_durable, tmp_path, caplog)


def test_damage_is_numbered(open_durable, tmp_path):
    """A second damaged store does not overwrite the first one."""
    for _ in range(2):
        for path in written(open_durable, tmp_path):
            overwrite_all(path)
        open_durable().open('table', 0).close()

    assert len(list(tmp_path.glob('*.damaged-*'))) == 2


def test_a_log_cut_anywhere_leaves_an_earlier_write_whole(open_durable, tmp_path):
    """The last writes may go with their log; data and position still agree."""
    keys = [b'%04d' % number for number in range(300)]
    state, copy = tmp_path / 'state', tmp_path / 'copy'
    backend = type(open_durable())
    store = backend(state).open('table', 0)
    for number in range(5):
        store.write(dict.fromkeys(keys, b'%d' % number), b'%d' % number)
    positions = []
    for share in (0.95, 0.7, 0.5, 0.3, 0.0):
        shutil.copytree(state, copy)
        for log in (*copy.rglob('*-wal'), *copy.rglob('*.log')):
            os.truncate(log, int(log.stat().st_size * share))
        reopened = backend(copy).open('table', 0)
        positions.append(reopened.position)
        assert {reopened.get(key) for key in keys} == {reopened.position}
        reopened.close()
        shutil.rmtree(copy)
    store.close()

    assert len(set(positions)) > 2, 'the cuts hit different writes'


def test_sqlite_is_checked_when_it_is_opened(tmp_path):
    """It has no checksums, so a page that is harmed is looked for, and not stumbled on later."""
    backend = base.open_backend('sqlite://', tmp_path)
    store = backend.open('table', 0)
    store.write(ROWS, b'1')
    store.close()
    overwrite_the_middle(tmp_path / 'table-0.sqlite')

    assert backend.open('table', 0).position is None
    backend.close()


def test_a_directory_in_use_is_not_damage(durable_url, tmp_path, open_durable):
    """Two workers in one directory: the second is told, and harms nothing."""
    first = open_durable().open('table', 0)
    first.write({b'k': b'1'}, b'1')
    other = base.open_backend(durable_url, tmp_path)
    with pytest.raises(errors.StoreError):
        write_in_turn(first, other)
    other.close()

    assert first.get(b'k') == first.position
    assert not list(tmp_path.glob('*.damaged-*'))


def write_in_turn(first, other):
    """RocksDB refuses to open twice, SQLite to write what another has moved on."""
    second = other.open('table', 0)
    first.write({b'k': b'2'}, b'2')
    second.write({b'k': b'3'}, b'3')
