"""What every store promises, whatever it is made of."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading

import pytest

from service_scaffold import errors
from service_scaffold.streams.stores import files


def some_bytes(chance: random.Random, longest: int) -> bytes:
    """Return bytes that are often equal to earlier ones, often a prefix of them."""
    return bytes(chance.choice((0, 1, 127, 255)) for _ in range(chance.randrange(longest + 1)))


@pytest.mark.parametrize('seed', range(4))
def test_a_store_does_as_a_sorted_dict_does(backend, seed):
    """Random writes, reads, scans, wipes and reopenings agree with a dict."""
    chance = random.Random(seed)
    model: dict[bytes, bytes] = {}
    position = None
    store = backend.open('table', 0)
    for step in range(60):
        changes = {
            some_bytes(chance, 4): None if chance.random() < 0.4 else some_bytes(chance, 6)
            for _ in range(chance.choice((0, 1, 7, 250)))
        }
        position = b'%d' % step
        store.write(changes, position)
        model.update({key: value for key, value in changes.items() if value is not None})
        model = {key: value for key, value in model.items() if changes.get(key, value) is not None}
        if chance.random() < 0.1:
            store.close()
            store = backend.open('table', 0)
        if chance.random() < 0.05:
            store.wipe()
            model, position = {}, None
        first, last, key = (some_bytes(chance, 3) for _ in range(3))

        assert (len(store), store.position) == (len(model), position)
        assert store.get(key) == model.get(key)
        expected = sorted(item for item in model.items() if first <= item[0] < last)
        assert list(store.scan(first, last)) == expected
        count = chance.randrange(5)
        assert store.head(first, last, count) == expected[:count]
        assert list(store.scan(first)) == sorted(i for i in model.items() if i[0] >= first)


def test_a_new_store_is_empty_and_true(store):
    """No rows, no position; and an empty store is not a false one."""
    assert (len(store), store.position, list(store.scan()), bool(store)) == (0, None, [], True)


def test_an_empty_value_is_a_value(store):
    """Only None deletes; the empty key is a key."""
    store.write({b'': b'', b'k': b''}, b'')

    assert (store.get(b''), store.get(b'k'), len(store), store.position) == (b'', b'', 2, b'')


def test_a_write_without_changes_moves_the_position(store):
    """A checkpoint that touched no key still counts."""
    store.write({}, b'7')

    assert (store.position, len(store)) == (b'7', 0)


def test_many_keys_come_in_order_and_are_counted(store):
    """More rows than any chunk holds; deletions and replacements among them."""
    keys = [b'%05d' % number for number in range(5_000)]
    store.write(dict.fromkeys(reversed(keys), b'old'), b'1')
    store.write({**dict.fromkeys(keys[::2], b'new'), **dict.fromkeys(keys[::5])}, b'2')

    rows = list(store.scan())
    assert [key for key, _ in rows] == [key for key in keys if int(key) % 5]
    assert all(value == (b'old' if int(key) % 2 else b'new') for key, value in rows)
    assert len(store) == len(rows) == 4_000


@pytest.mark.parametrize('rows', [5, 5_000])
def test_a_scan_shows_the_moment_of_its_call(store, rows):
    """Writes after the call, before the first row or between rows, do not show."""
    before = {b'%05d' % number: b'old' for number in range(rows)}
    store.write(before, b'1')
    scan = store.scan()
    store.write(dict.fromkeys(before, b'new') | {b'00000x': b'new', b'00003': None}, b'2')
    head = [next(scan), next(scan)]
    store.write(dict.fromkeys(before), b'3')

    assert dict([*head, *scan]) == before


@pytest.mark.parametrize('wrong', [{'text': b''}, {b'k': 'text'}, {b'k': 1}, {b'k': b'', 1: b''}])
def test_what_is_not_bytes_is_refused_and_nothing_written(store, wrong):
    """A wrong type is an error of the caller, and no row of the write stays."""
    store.write({b'a': b'1'}, b'1')

    with pytest.raises(TypeError):
        store.write({b'a': b'2'} | wrong, b'2')

    with pytest.raises(TypeError):
        store.write({b'a': b'2'}, 'text')
    assert (list(store.scan()), store.position, len(store)) == ([(b'a', b'1')], b'1', 1)


def test_a_closed_store_says_so(store):
    """No method works on; closing twice is fine."""
    store.close()
    store.close()

    assert store.closed
    calls = (
        lambda: store.get(b''),
        lambda: list(store.scan()),
        lambda: len(store),
        lambda: store.position,
        lambda: store.write({}, b''),
        store.wipe,
    )
    for call in calls:
        with pytest.raises(errors.StoreError, match='closed'):
            call()


def test_a_scan_cut_off_by_close_does_not_end_early(backend, store):
    """Whoever counts on the rows being all learns that they are not; reopening works."""
    store.write({b'%05d' % number: b'' for number in range(5_000)}, b'1')
    scan = store.scan()
    next(scan)
    store.close()
    again = backend.open('table', 0)

    with pytest.raises(errors.StoreError, match='closed'):
        list(scan)
    assert len(list(again.scan())) == 5_000


def test_forgotten_scans_hold_nothing_up(backend, store):
    """Scans that were begun, or never begun, and dropped: writes and reopening go on."""
    store.write({b'%05d' % number: b'' for number in range(3_000)}, b'1')
    for _ in range(50):
        store.scan()
        next(store.scan())
    store.write({b'x': b''}, b'2')
    store.close()

    assert len(backend.open('table', 0)) == 3_001


def test_a_store_is_open_once(backend, store):
    """A second user of a table partition would not see the first one's position."""
    with pytest.raises(errors.StoreError, match="'table' partition 0 is in use"):
        backend.open('table', 0)
    with pytest.raises(errors.StoreError, match='in use'):
        backend.drop('table', 0)


def test_tables_and_partitions_are_apart(backend):
    """Names that look alike on a file system, or leave it, have a store each."""
    names = ('a', 'A', 'a-1', 'a/b', 'a%2fb', 'a%2Fb', '.', '..', '', '~', 'é', 'e\u0301', '\0')
    names += ('x' * 300, 'x' * 301, '\ud800', '../a', 'a\n')
    places = [(name, partition) for name in names for partition in (0, 10)]
    for place in places:
        store = backend.open(*place)
        assert store.position is None, place
        store.write({b'k': repr(place).encode()}, b'1')
        store.close()

    for place in places:
        store = backend.open(*place)
        assert store.get(b'k') == repr(place).encode()
        store.close()


def test_names_differ_by_more_than_case():
    """Some file systems do not tell `orders` from `Orders`."""
    names = ['orders', 'Orders', 'ORDERS', 'o%52ders', 'o%72ders', 'É', 'é']

    assert len({files.safe_name(name).casefold() for name in names}) == len(names)
    assert files.safe_name('orders') == 'orders'


def test_short_scans_keep_to_their_bounds(store):
    """No row beyond, whatever lies there."""
    chance = random.Random(0)
    keys = sorted({some_bytes(chance, 4) for _ in range(500)})
    for number, key in enumerate(keys):
        store.write({key: b'%d' % number}, b'1')

    for _ in range(100):
        first, last = sorted(bytes(chance.choices((0, 1, 127, 255), k=3)) for _ in range(2))
        found = [key for key, _ in store.scan(first, last)]
        assert found == [key for key in keys if first <= key < last]


def test_drop_removes_one_store(backend, store):
    """The other partition stays; dropping what is not there is fine."""
    store.write({b'k': b'v'}, b'1')
    backend.open('table', 1).write({b'k': b'v'}, b'1')
    store.close()
    backend.drop('table', 0)
    backend.drop('table', 0)

    assert backend.open('table', 0).position is None
    with pytest.raises(errors.StoreError, match='in use'):
        backend.open('table', 1)


def test_a_closed_backend_has_closed_its_stores(backend, store):
    """So that a worker lets go of all files at once."""
    backend.close()
    backend.close()

    assert store.closed


async def test_reads_go_on_while_a_thread_writes(store):
    """Every scan shows one whole write, every get a value that was written, none an error."""
    keys = [b'%04d' % number for number in range(1_500)]
    store.write(dict.fromkeys(keys, b'0'), b'0')
    done = threading.Event()

    def write() -> None:
        try:
            for number in range(1, 40):
                store.write(dict.fromkeys(keys, b'%d' % number), b'%d' % number)
        finally:
            done.set()

    writing = asyncio.create_task(asyncio.to_thread(write))
    seen = set()
    while not done.is_set():
        newest = int(store.get(keys[700]))
        values = {value for _, value in store.scan()}
        assert len(values) == 1
        assert int(values.copy().pop()) >= newest
        seen |= values
        # A real pause: who takes the interpreter's lock again at once starves other threads.
        await asyncio.sleep(0.001)
    await writing

    assert store.position == store.get(keys[0]) == b'39'
    assert len(seen) > 1


def test_threads_may_read_write_and_close_at_once(backend, store):
    """Whatever the order, each call works or says that the store is closed."""
    store.write({b'%05d' % number: b'' for number in range(2_500)}, b'0')
    wrong: list[Exception] = []
    begun = threading.Barrier(5)

    def until_closed(call) -> None:
        begun.wait(10)
        try:
            while True:
                call()
        except errors.StoreError as error:
            if 'closed' not in str(error):
                wrong.append(error)
        except Exception as error:  # noqa: BLE001 whatever it is, the test shows it
            wrong.append(error)

    calls = (
        lambda: store.get(b'00007'),
        lambda: sum(1 for _ in store.scan()),
        lambda: store.write({b'00007': b'x'}, b'1'),
        lambda: store.write({b'00008': None}, b'2'),
    )
    threads = [threading.Thread(target=until_closed, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    begun.wait(10)
    for _ in range(20):
        store.get(b'')
        store.write({}, b'3')
    store.close()
    for thread in threads:
        thread.join(10)

    assert not wrong
    assert not any(thread.is_alive() for thread in threads)
    assert len(list(backend.open('table', 0).scan())) in (2_499, 2_500)


def test_writes_of_many_sizes_cost_no_memory(durable_url, tmp_path):
    """However many rows come at a time: what was done for other numbers of rows is not kept."""
    ran = subprocess.run(
        [sys.executable, '-m', 'test.streams.stores.sizes', durable_url, str(tmp_path)],
        capture_output=True,
        check=True,
        timeout=60,
    )

    assert int(ran.stdout) < 8 * 1024
