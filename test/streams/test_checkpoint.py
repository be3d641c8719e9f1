"""Checkpoints: what stands between a commit and a store, and what ends one on its way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

import pytest

from service_scaffold import errors
from service_scaffold.journal.base import (
    Member,
    NewRecord,
    RebalanceListener,
    TopicPartition,
    TopicSpec,
)
from service_scaffold.journal.partitioner import partition_of
from service_scaffold.streams.checkpoint import AtLeastOnce, Snapshot
from service_scaffold.streams.driver import drive
from service_scaffold.streams.outbox import Outbox, Passing
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.state import PartitionState
from service_scaffold.streams.stores.base import Backend, Store
from service_scaffold.streams.stores.memory import MemoryBackend, MemoryStore
from service_scaffold.streams.tables.table import Table
from service_scaffold.streams.topology import Topology
from test.streams.several import Crew, SharedLog, crew_of, until

ROUNDS = 3


class _Dying(MemoryBackend):
    """Stores that survive their worker, and end it when something committed is to be written."""

    def __init__(self) -> None:
        super().__init__()
        self.armed = False
        self.deaths = 0

    def close(self) -> None:
        Backend.close(self)

    def _open(self, table: str, partition: int) -> Store:
        store = super()._open(table, partition)
        assert isinstance(store, MemoryStore)
        return _DyingStore(store, self)


class _DyingStore(MemoryStore):
    def __init__(self, store: MemoryStore, backend: _Dying) -> None:
        super().__init__(store._held())
        self._backend = backend

    def write(self, changes: Mapping[bytes, bytes | None], position: bytes) -> None:
        if self._backend.armed and changes:
            self._backend.armed = False
            self._backend.deaths += 1
            raise errors.StoreError('killed before the store is written')
        super().write(changes, position)


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
async def test_a_store_that_missed_a_commit_catches_up(any_log: SharedLog, guarantee: str) -> None:
    """Killed between the commit and the write, again and again: nothing is counted twice."""
    name = any_log.id

    def declare(topology: Topology) -> None:
        numbers = topology.topic(f'{name}-in', value_type=int, partitions=2)
        out = topology.topic(f'{name}-out', value_type=int, partitions=1)
        counts = topology.Table('counts', default=int, key_type=str)

        @topology.agent(numbers, sink=[out])
        async def work(stream):  # type: ignore[no-untyped-def]
            async for number in stream:
                counts[f'n{number % 7}'] += 1
                yield number

    async with crew_of(any_log, declare, guarantee=guarantee) as crew:
        crew.stores = stores = _Dying()
        peer = await crew.join()
        counts = peer.topology.tables['counts']
        for turn in range(ROUNDS):
            stores.armed = True
            sent = range(turn * 70, turn * 70 + 70)
            await crew.send('in', *((f'n{n % 7}', b'%d' % n) for n in sent))
            await until(lambda turn=turn: stores.deaths == turn + 1)
            wanted = {f'n{n}': 10 * (turn + 1) for n in range(7)}
            await until(lambda wanted=wanted: _shown(counts) == wanted)
        written = await _output(crew, any_log)

    assert stores.deaths == ROUNDS
    assert set(written) == set(range(70 * ROUNDS))
    if guarantee == 'exactly_once':
        assert set(written.values()) == {1}


def _shown(table: Table) -> dict[str, int] | None:
    try:
        return dict(table.items())
    except errors.StoreError:
        return None  # it is about to be opened again


async def _output(crew: Crew, log: SharedLog) -> Counter[int]:
    where = TopicPartition(f'{log.id}-out', 0)
    journal = log.open_journal()
    await journal.connect()
    try:
        end = (await journal.offsets([where], 'end'))[where]
        reader = await journal.reader()
        await reader.assign({where: 0})
        found: Counter[int] = Counter()
        while reader.position(where) < end:
            found.update(int(record.value or b'') for record in await reader.fetch(1_000, 0.2))
        return found
    finally:
        await journal.close()


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
async def test_a_task_that_ends_does_not_leave_its_checkpoint_hanging(guarantee: str) -> None:
    """Else nobody's checkpoints would ever come again."""
    app = Topology(StreamSettings('shop', guarantee=guarantee))
    numbers = app.topic('numbers', value_type=int, partitions=1)
    sums = app.Table('sums', default=int)
    out = app.topic('out', value_type=int, partitions=1)

    @app.agent(numbers, sink=[out])
    async def work(stream):  # type: ignore[no-untyped-def]
        async for number in stream:
            sums['all'] += number
            yield number

    async with drive(app) as t:
        await t.send(numbers, 1)
        await until(lambda: work.stats.processed == 1)
        session = t.worker.session
        (task,) = session.tasks.values()
        t._broker.network.slow(0.3)
        flushing = asyncio.create_task(session.flush())
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await session.restart(task)
            await flushing
        t._broker.network.slow(0)
        await t.send(numbers, 10)
        await t.settle()

        assert t.worker.session is session
        assert sums['all'] == 11


async def test_where_a_record_stands_is_told_whoever_has_chosen(any_log: SharedLog) -> None:
    """By its key, in turn, or by the sender."""
    sends = f'{any_log.id}-out'

    def declare(topology: Topology) -> None:
        topology.topic(sends, partitions=3)

    async with crew_of(any_log, declare) as crew:
        topic = (await crew.join()).topology.topics[sends]
        keyed = await topic.send(key='k', value=1)
        chosen = await topic.send(value=1, partition=2)
        turns = {(await topic.send(value=n)).partition for n in range(6)}

    assert keyed.partition == partition_of(b'k', 3)
    assert chosen.partition == 2
    assert turns == {0, 1, 2}


class _Stale:
    """A member that was given up while it stood still, and a producer that nothing fences."""

    def __init__(self) -> None:
        self.stands = True
        self.asked = 0
        self.logged: list[NewRecord] = []

    async def prove(self) -> None:
        self.asked += 1
        if not self.stands:
            raise errors.GenerationEnded('somebody else has them')

    async def commit(self, offsets: object, notes: object) -> None:
        await self.prove()
        self.asked -= 1

    async def produce(self, records: list[NewRecord]) -> list[int]:
        self.logged += records
        return list(range(len(self.logged) - len(records), len(self.logged)))


async def test_a_worker_that_was_given_up_while_it_stood_still_logs_nothing(monkeypatch) -> None:
    """Its successor commits the same numbers, so that its records would count."""
    stale = _Stale()

    async def ensure(names: object) -> Passing:
        return Passing()

    pump = asyncio.ensure_future(asyncio.sleep(60))
    committer = AtLeastOnce(stale, stale, Outbox(stale, ensure), pump, ensure)
    store = MemoryBackend().open('counts', 0)
    state = PartitionState('counts', 0, store, TopicPartition('shop-counts-changelog', 0))

    async def checkpoint(number: int) -> None:
        state.apply({b'k': b'%d' % number})
        where = {TopicPartition('words', 0): number}
        await committer.commit(Snapshot(number, where, {}, [(state, state.take())]))

    try:
        await checkpoint(1)
        await checkpoint(2)
        assert (len(stale.logged), stale.asked) == (2, 1)  # a commit proves enough for a while
        monkeypatch.setattr('service_scaffold.streams.checkpoint.PROVEN_S', -1.0)
        stale.stands = False
        with pytest.raises(errors.GenerationEnded):
            await checkpoint(3)
        assert len(stale.logged) == 2
    finally:
        await committer.close()
        store.close()


class _Deaf(RebalanceListener):
    async def on_revoked(self, partitions: object) -> None: ...

    async def on_assigned(self, partitions: object) -> None: ...


async def test_a_group_tells_whether_a_member_still_counts(any_log: SharedLog) -> None:
    journals = [any_log.open_journal() for _ in range(2)]
    for journal in journals:
        await journal.connect()
    await journals[0].create([TopicSpec(f'{any_log.id}-in', 1)])
    member = await journals[0].member(any_log.id, _Deaf())
    with pytest.raises(errors.GenerationEnded):
        await member.prove()
    try:
        await member.subscribe([f'{any_log.id}-in'])
        await _joined(member)
        await member.prove()
        if hasattr(member, '_group') and hasattr(member._group, 'evict'):
            member._group.evict(member)
        else:  # what the group calls those whose generation has ended
            member._consumer._coordinator.generation -= 1
        with pytest.raises(errors.GenerationEnded):
            await member.prove()
        await _joined(member)
        await member.prove()
    finally:
        for journal in journals:
            await journal.close()


async def _joined(member: Member) -> None:
    async with asyncio.timeout(20):
        await member.fetch(10, 0.1)
        while member.generation < 0 or not member.assignment:
            await member.fetch(10, 0.1)
