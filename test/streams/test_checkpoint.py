"""Checkpoints: what stands between a commit and a store, and what ends one on its way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

import pytest

from service_scaffold import errors
from service_scaffold.journal.base import TopicPartition
from service_scaffold.journal.partitioner import partition_of
from service_scaffold.streams.driver import drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.stores.base import Backend, Store
from service_scaffold.streams.stores.memory import MemoryBackend, MemoryStore
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
            await until(lambda wanted=wanted: dict(counts.items()) == wanted)
        written = await _output(crew, any_log)

    assert stores.deaths == ROUNDS
    assert set(written) == set(range(70 * ROUNDS))
    if guarantee == 'exactly_once':
        assert set(written.values()) == {1}


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
