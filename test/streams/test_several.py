"""Agents of several topics, known by name or by a pattern."""

from __future__ import annotations

import asyncio
import re

import pytest

from service_scaffold import errors
from service_scaffold.journal.base import NewRecord, TopicSpec
from service_scaffold.journal.memory import MemoryJournal
from service_scaffold.streams.decision import Decision
from service_scaffold.streams.driver import Driver, drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.testing.conformance.inbox import eventually
from test.chaos.stream_workers import connected
from test.streams.test_rpc_kafka import Instance


@pytest.fixture(params=['at_least_once', 'exactly_once'])
def settings(request: pytest.FixtureRequest) -> StreamSettings:
    return StreamSettings('shop', guarantee=request.param, drain_s=0.1, checkpoint_s=0.2)


@pytest.fixture
def app(settings) -> Topology:
    return Topology(settings)


async def make(driver: Driver, *topics: TopicSpec) -> None:
    """Make topics, as another application would."""
    journal = MemoryJournal(driver._broker, who='another')
    await journal.connect()
    await journal.create(topics)
    await journal.close()


async def test_each_topic_has_its_own_partitions_and_offsets(app):
    app.topic('b', partitions=3)
    both = app.topic('a', 'b', value_type=int)
    app.topic('a', partitions=1)
    found = []

    @app.agent(both, concurrency=2)
    async def work(stream):
        async for event in stream.events():
            found.append((event.topic, event.key, event.value))

    async with drive(app) as t:
        for n in range(12):
            await t.send('ab'[n % 2], n, key=f'k{n % 3}')
        await t.settle()
        await t.restart()
        await t.send('a', 99, key='k0')
        await t.settle()
    for topic in 'ab':
        for key in ('k0', 'k1', 'k2'):
            mine = [n for *where, n in found if where == [topic, key]]
            assert mine == sorted(set(mine))
    assert len(found) == 13
    assert work.stats.processed == 13


async def test_a_topic_that_does_not_exist_holds_up_no_other(app):
    found = []

    @app.agent(app.topic('a', 'b', value_type=int))
    async def work(stream):
        async for n in stream:
            found.append(n)

    async with drive(app) as t:
        await make(t, TopicSpec('a', 1))
        await t.send('a', 1)
        await t.settle()
        assert found == [1]
        assert t.worker.health().detail['missing_topics'] == ['b']
        await make(t, TopicSpec('b', 2))
        await t.send('b', 2)
        await t.settle()
        assert found == [1, 2]


async def test_a_dead_letter_goes_to_that_of_its_own_topic(app):
    @app.agent(app.topic('a', 'b', partitions=1), on_error=lambda agent, exc: Decision.DEAD_LETTER)
    async def work(stream):
        async for n in stream:
            raise ValueError(n)

    async with drive(app) as t:
        await t.send('a', 1)
        await t.send('b', 2)
        await t.settle()
        assert [event.value for event in t.read('a.dlq')] == [1]
        assert [event.value for event in t.read('b.dlq')] == [2]
    assert str(work.last_error) in '12'


async def test_they_can_be_grouped_and_sent_through_one(app):
    both = app.topic('a', 'b', value_type=int, partitions=2)
    counts = app.Table('counts', default=int, key_type=str)
    declared = []

    @app.agent(both)
    async def work(stream):
        async for n in stream.group_by(lambda n: f'{n % 2}', name='parity'):
            counts[f'{n % 2}'] += 1

    @app.agent(both.stream().through('one'))
    async def see(stream):
        async for n in stream:
            declared.append(n)

    async with drive(app) as t:
        for n in range(6):
            await t.send('aab'[n % 3], n, key=f'k{n}')
        await t.settle()
        assert dict(counts.items()) == {'0': 3, '1': 3}
        assert len(t._broker.topics['shop-work-parity-repartition'].partitions) == 2
    assert sorted(declared) == list(range(6))


async def test_nothing_is_sent_to_several(app):
    both = app.topic('a', 'b')
    agent = app.agent(both)(body)
    for send in (both.send(value=1), agent.send(value=1), agent.cast(1)):
        with pytest.raises(errors.StreamError, match=r'several topics here \(a, b\)'):
            await send


async def body(stream):
    async for _ in stream:
        pass


def test_what_they_cannot_be(app):
    both, one = app.topic('a', 'b'), app.topic('c')
    with pytest.raises(errors.StreamError, match='combined'):
        app.agent(one.stream() & both.stream())(body)
    with pytest.raises(errors.StreamError, match='no join'):
        app.agent(both.stream().join(one.stream(), within=1))(body)
    with pytest.raises(TypeError, match='names, or pattern='):
        app.topic()
    with pytest.raises(TypeError, match='names, or pattern='):
        app.topic('a', pattern='b')


@pytest.mark.parametrize('pattern', ['orders-.*', re.compile('orders-.*')])
async def test_a_topic_that_matches_is_read_as_soon_as_it_is_there(app, pattern):
    found = []
    own = app.topic('orders-out', internal=True)

    @app.agent(app.topic(pattern=pattern, value_type=int))
    async def work(stream):
        async for event in stream.events():
            if event.value < 0:
                raise ValueError(event.value)
            found.append((event.topic, event.value))
            await own.send(value=event.value)

    async with drive(app) as t:
        await make(t, TopicSpec('orders-a', 2), TopicSpec('more-orders-b', 1))
        await t.settle()
        await t.send('orders-a', 1)
        await t.send('orders-a', -1)
        await t.send('more-orders-b', 2)
        await t.settle()
        assert found == [('orders-a', 1)]
        await make(t, TopicSpec('orders-b', 3))
        await t.send('orders-b', 3)
        await t.settle()
        assert found == [('orders-a', 1), ('orders-b', 3)]
        assert t.worker.health().ready
        await t.restart()
        await t.send('orders-b', 4)
        await t.settle()
    assert found == [('orders-a', 1), ('orders-b', 3), ('orders-b', 4)]


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
async def test_workers_share_what_a_pattern_finds_on_kafka(kafka, unique, guarantee):
    settings = StreamSettings(unique, guarantee=guarantee, checkpoint_s=0.2)
    journal = await connected(kafka.url)
    producer = await journal.producer()
    found: list[tuple[str, int]] = []

    def worker() -> Instance:
        one = Instance(kafka.url, settings)

        @one.topology.agent(one.topology.topic(pattern=f'{unique}\\.in.*', value_type=int))
        async def work(stream):
            async for event in stream.events():
                found.append((event.topic.rpartition('.')[2], event.value))

        return one

    async def send(topic: str, *values: int) -> None:
        await journal.create([TopicSpec(f'{unique}.{topic}', 2, 1, {})])
        records = [NewRecord(f'{unique}.{topic}', b'%d' % n, b'k%d' % n) for n in values]
        assert all(isinstance(offset, int) for offset in await producer.produce(records))

    try:
        await send('in1', 1, 2)
        async with worker().running(), worker().running(), asyncio.timeout(40):
            await eventually(lambda: sorted(found) == [('in1', 1), ('in1', 2)], 20)
            await send('in2', 3, 4, 5)
            await eventually(lambda: {n for _, n in found} == {1, 2, 3, 4, 5}, 15)
    finally:
        await producer.close()
        await journal.close()
    assert len(set(found)) == 5
