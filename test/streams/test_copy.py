"""One copy: what counts, and where its store is."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from service_scaffold import errors
from service_scaffold.clock import ManualClock
from service_scaffold.journal.memory import MemoryJournal
from service_scaffold.journal.memory_broker import MemoryBroker
from service_scaffold.streams.checkpoint import CHECKPOINT_HEADER, read_position, write_position
from service_scaffold.streams.copies import Copies
from service_scaffold.streams.copy import Copy, CopyState
from service_scaffold.streams.driver import drive
from service_scaffold.streams.registry import WorkerInfo, standby_places
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.stores.memory import MemoryBackend, MemoryStore, _Contents
from service_scaffold.streams.tables.table import Table
from service_scaffold.streams.topology import Topology


class Logged(NamedTuple):
    """A changelog record."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def logged(offset: int, key: bytes, value: bytes | None, checkpoint: int = 0) -> Logged:
    headers = ((CHECKPOINT_HEADER, str(checkpoint).encode()),) if checkpoint else ()
    return Logged(offset, key, value, headers)


@pytest.fixture
def backend() -> MemoryBackend:
    """Stores in memory."""
    return MemoryBackend()


def copy_of(backend: MemoryBackend, first: int = 0, end: int = 100) -> Copy:
    table = Table('counts', 'shop-counts-changelog')
    return Copy(table, CopyState('counts', 0, backend.open('counts', 0), None), first, end)


def test_without_numbers_all_is_stored(backend):
    """Exactly-once: what is read is committed."""
    copy = copy_of(backend)
    copy.take([logged(3, b'a', b'1'), logged(4, b'b', b'2'), logged(5, b'a', None)])
    assert dict(copy.state.store.scan()) == {b'b': b'2'}
    assert read_position(copy.state.store.position).offset == 6
    assert copy.next == 6
    assert copy.lag == 94


def test_the_last_checkpoint_is_visible_and_not_stored(backend):
    """It may be given up: only the next one proves that it counts."""
    copy = copy_of(backend)
    copy.take([logged(0, b'a', b'1', 7), logged(1, b'a', b'2', 8), logged(2, b'b', b'1', 8)])
    assert dict(copy.state.store.scan()) == {b'a': b'1'}
    assert dict(copy.state.committed_scan()) == {b'a': b'2', b'b': b'1'}
    assert copy.state.committed(b'a') == b'2'
    position = read_position(copy.state.store.position)
    assert (position.offset, position.checkpoint) == (1, 7)
    copy.take([logged(3, b'c', b'1', 9)])
    assert dict(copy.state.store.scan()) == {b'a': b'2', b'b': b'1'}
    assert read_position(copy.state.store.position).offset == 3


def test_it_goes_on_where_its_store_is(backend):
    """Closed and opened, it reads on; unless the log does not have that any more."""
    copy = copy_of(backend)
    copy.take([logged(0, b'a', b'1'), logged(1, b'b', b'1')])
    copy.state.close()
    again = copy_of(backend)
    assert (again.start, again.whole) == (2, False)
    again.state.close()
    lost = copy_of(backend, first=50)
    assert lost.start == 50
    assert len(lost.state.store) == 0


@pytest.mark.parametrize('ahead', [False, True])
async def test_a_copy_that_is_ahead_of_what_counts_is_built_anew(ahead):
    """A checkpoint that was given up is in the copy: the one who takes over does not use it."""
    app = Topology(StreamSettings('shop'))
    counts = app.Table('counts', default=int)

    @app.agent(app.topic('words', partitions=1))
    async def count(stream):
        async for word in stream:
            counts[word] += 1

    async with drive(app) as t:
        await t.send('words', 'a')
        await t.settle()
        await t.stop()
        store = t._stores.open('counts', 0)
        position = read_position(store.position)
        number = 5_000 if ahead else 1
        store.write({b'void': b'9'}, f'[{position.offset},{number}]'.encode())
        store.close()
        await t.start()
        assert ('void' in counts) is not ahead
        assert counts['a'] == 1


class FullStore(MemoryStore):
    """A store on a full disk."""

    def wipe(self) -> None:
        raise errors.StoreError('the disk is full')


class FullBackend(MemoryBackend):
    """Stores on a full disk."""

    def _open(self, table: str, partition: int) -> MemoryStore:
        return FullStore(self._contents.setdefault((table, partition), _Contents()))


@pytest.mark.parametrize('lost', [False, True])
def test_a_store_that_cannot_be_emptied_is_left_alone_and_not_held(lost, caplog):
    """It is opened for a copy, or has fallen behind the log: whoever gets the partition may try."""
    stores = FullBackend()
    store = stores.open('counts', 0)
    store.write({}, write_position(50))
    store.close()
    table = Table('counts', 'changes', partitions=1)
    copies = Copies(
        MemoryJournal(MemoryBroker('', ManualClock())), stores, ManualClock(), lambda _: False
    )
    copies.want([(table, 0)])
    if lost:
        copies._open(('counts', 0), table, 0, 60)
        copies._begin_again(errors.OffsetsLost('gone', {('changes', 0): (50, 55)}))
    else:
        copies._open(('counts', 0), table, 0, 5)
    assert not copies.by_place
    assert 'the disk is full' in caplog.text
    stores.open('counts', 0).close()


class Workers:
    """A registry of workers that say nothing of copies."""

    def __init__(self, *infos: WorkerInfo) -> None:
        self.workers = {info.id: info for info in infos}

    def owner(self, kind, name, number):
        return next((i for i in self.workers.values() if i.has(kind, name, number)), None)


@pytest.mark.parametrize('replicas', [0, 1, 2, 5])
def test_standbys_are_spread(replicas):
    """As many as wanted, or as there are; never the owner."""
    ids = ['a', 'b', 'c', 'd']
    workers = Workers(
        *(WorkerInfo(id, tables={'t': list(range(n, 100, 4))}) for n, id in enumerate(ids))
    )
    places = {id: standby_places(workers, id, {'t': 100}, replicas) for id in ids}
    for number in range(100):
        holders = [id for id in ids if ('t', number) in places[id]]
        assert len(holders) == min(replicas, 3)
        assert ids[number % 4] not in holders
    if replicas == 1:
        assert all(10 < len(found) < 40 for found in places.values())


def test_who_comes_moves_little():
    """With one more worker, a standby either stays or goes to the new one."""
    before = Workers(WorkerInfo('owner', tables={'t': list(range(100))}), *map(WorkerInfo, 'abc'))
    after = Workers(*before.workers.values(), WorkerInfo('new'))
    for id in 'abc':
        old = set(standby_places(before, id, {'t': 100}, 1))
        new = set(standby_places(after, id, {'t': 100}, 1))
        assert new <= old
