"""One connection to the log."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from service_scaffold import errors
from service_scaffold.clock import SystemClock
from service_scaffold.journal.base import TopicSpec
from service_scaffold.journal.kafka import KafkaJournal
from service_scaffold.journal.kafka_client import Access
from service_scaffold.journal.memory import MemoryJournal
from service_scaffold.journal.memory_broker import MemoryBroker
from service_scaffold.streams.driver import drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.testing.conformance.inbox import eventually
from test.streams.several import SharedLog, crew_of, until


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
async def test_what_comes_after_the_end_of_a_connection_is_not_begun(guarantee):
    """A Kafka client tells of partitions in a task of its own, which may be late."""
    app = Topology(StreamSettings('shop', guarantee=guarantee))
    orders = app.topic('orders', value_type=int, partitions=2)
    table = app.Table('seen', default=int)

    @app.agent(orders)
    async def work(stream):
        async for number in stream:
            table[number] += 1

    async with drive(app) as t:
        await t.settle()
        session = t.worker.session
        partitions = frozenset(p for task in session.tasks.values() for p in task.partitions)
        await session.close()

        await session.shares.on_assigned(partitions)

        assert partitions
        assert not session.tasks


async def test_a_topic_that_comes_later_repeats_nothing_of_the_others():
    """The partition begins again with one topic more, behind what was finished."""
    app = Topology(StreamSettings('shop'))
    orders = app.topic('orders', value_type=int, partitions=1)
    late = app.topic('late', value_type=int)
    seen = []

    @app.agent(orders)
    async def work(stream):
        async for number in stream:
            seen.append(number)

    @app.agent(late)
    async def work_late(stream):
        async for number in stream:
            seen.append(number)

    async with drive(app) as t:
        for number in range(5):
            await t.send(orders, number)
        await eventually(lambda: work.stats.processed == 5)  # and nothing is committed
        journal = MemoryJournal(t._broker)
        await journal.connect()
        await journal.create([TopicSpec('late', 1)])
        await journal.close()
        await t.send(late, 99)
        await t.settle()
        assert seen == [0, 1, 2, 3, 4, 99]


async def test_a_topic_that_grows_is_counted_again(kafka, unique):
    """What reads it and keeps nothing goes on, with all partitions."""
    log = kafka_log(kafka, unique)
    seen = []

    def declare(topology):
        @topology.agent(topology.topic(f'{unique}-in', value_type=int, partitions=2))
        async def work(stream):
            async for number in stream:
                seen.append(number)

    async with crew_of(log, declare) as crew:
        await crew.join()
        await crew.send('in', *((f'k{n}', b'%d' % n) for n in range(20)))
        await until(lambda: len(seen) == 20)
        await grow(kafka, f'{unique}-in', 5)
        await crew.send('in', *((f'k{n}', b'%d' % n) for n in range(20, 60)))
        await until(lambda: set(seen) == set(range(60)))


async def test_a_table_does_not_grow_with_its_topic(kafka, unique):
    """Its keys would lie in other partitions: the application stops, and says what to do."""
    log = kafka_log(kafka, unique)

    def declare(topology):
        counts = topology.Table('counts', default=int)

        @topology.agent(topology.topic(f'{unique}-in', value_type=int, partitions=2))
        async def work(stream):
            async for number in stream:
                counts[number] += 1

    async with crew_of(log, declare) as crew:
        peer = await crew.join()
        await grow(kafka, f'{unique}-in', 5)
        failure = await until(lambda: peer.worker.failure)

    assert isinstance(failure, errors.CoPartitionError)
    assert 'needs 5 partitions' in str(failure)


@pytest.mark.parametrize('kind', ['memory', 'kafka'])
async def test_at_most_once_goes_on_through_a_rebalance(kind, unique, request):
    """Who comes and goes takes partitions, and nothing of those that stay."""
    log = kafka_log(request.getfixturevalue('kafka'), unique) if kind == 'kafka' else None
    if log is None:
        broker = MemoryBroker('', SystemClock())
        log = SharedLog(unique, lambda: MemoryJournal(broker, who=unique))
    seen = Counter()

    def declare(topology):
        @topology.agent(topology.topic(f'{unique}-in', value_type=int, partitions=4))
        async def work(stream):
            async for number in stream:
                await asyncio.sleep(0.001)
                seen[number] += 1

    async with crew_of(log, declare, guarantee='at_most_once', drain_s=0.2) as crew:
        first = await crew.join()
        session = first.worker.session
        sending = asyncio.create_task(_send_on(crew, 100))
        for _ in range(3):
            peer = await crew.join()
            await asyncio.sleep(0.3)
            await crew.leave(peer)
        sent = await sending
        await until(lambda: first.topology.agents['work'].stats.processed and not _lags(first))

        assert first.worker.session is session
    assert set(seen.values()) == {1}
    assert len(seen) > sent // 2


async def _send_on(crew, times):
    for turn in range(times):
        numbers = range(turn * 20, turn * 20 + 20)
        await crew.send('in', *((f'k{n}', b'%d' % n) for n in numbers))
        await asyncio.sleep(0.02)
    return times * 20


def _lags(peer):
    return any(not task.at_rest for task in peer.worker.session.tasks.values())


def kafka_log(kafka, name):
    access = Access([(kafka.host, kafka.port)], client_id=name)
    return SharedLog(name, lambda: KafkaJournal(access))


async def grow(kafka, topic, count):
    """Give a topic more partitions, as an administrator does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=f'{kafka.host}:{kafka.port}')
    await admin.start()
    try:
        await admin.create_partitions({topic: NewPartitions(count)})
    finally:
        await admin.close()


async def test_no_store_stays_open_when_a_connection_has_ended(caplog):
    """Its partition could not be worked on again: the next connection would find it in use."""
    app = Topology(StreamSettings('shop'))
    orders = app.topic('orders', value_type=str, partitions=1)
    counts = app.Table('counts', default=int)

    @app.agent(orders)
    async def count(stream):
        async for order in stream:
            counts[order] += 1

    async with drive(app) as t:
        await t.send(orders, 'a')
        await t.settle()
        left = t._stores.open('counts', 7)  # as somebody would who forgets it
        for state in counts.here.values():
            state.store.close()  # as a store does that finds its file damaged
        await t.send(orders, 'b')
        await t.settle()

        assert dict(counts.items()) == {'a': 1, 'b': 1}
        assert left.closed
        assert 'stores left open: counts/7; closing' in caplog.text
