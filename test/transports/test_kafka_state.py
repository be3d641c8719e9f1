"""Latest values and signs of life on a real Kafka: order, compaction, transactions, times."""

from __future__ import annotations

import pytest
import pytest_asyncio

from service_scaffold import errors
from service_scaffold.journal.base import NewRecord, TopicPartition
from service_scaffold.journal.partitioner import partition_of
from service_scaffold.testing.conformance.connections import (
    Connections,
    Seen,
    following,
    presence_of,
    state_of,
)
from service_scaffold.transports.leases import Sign
from test.brokers.kafka import Kafka

LEASE_S = 4.0


@pytest_asyncio.fixture
async def connections(kafka: Kafka, unique: str):
    made = Connections(kafka.url, unique, LEASE_S)
    yield made
    await made.close()


@pytest_asyncio.fixture
async def transport(connections: Connections):
    return await connections.open()


async def snapshot(transport) -> dict[str, bytes]:
    async with following(transport) as changes:
        return await changes.snapshot()


async def records(transport, topic: str):
    """Return all records of a topic."""
    journal = transport._journal
    count = (await journal.partitions([topic]))[topic]
    places = [TopicPartition(topic, n) for n in range(count)]
    ends = await journal.offsets(places, 'end')
    reader = await journal.reader()
    await reader.assign(await journal.offsets(places, 'first'))
    found = []
    while any(reader.position(place) < end for place, end in ends.items()):
        found += await reader.fetch(1000, 1.0)
    await reader.close()
    return found


async def test_what_belongs_together_is_in_one_partition(transport, unique):
    """So that it keeps one order, whoever reads it with whatever client."""
    keys = [f'mill-{n}/{name}' for n in range(20) for name in ('a', 'b')]
    await state_of(transport).put_many([(key, b'1') for key in keys])

    found = await records(transport, f'{unique}.state')

    assert {r.key.decode(): r.partition for r in found} == {
        key: partition_of(key.partition('/')[0], 4) for key in keys
    }


@pytest.mark.parametrize('committed', [True, False])
async def test_a_snapshot_ends_behind_a_transaction(transport, unique, committed):
    """Its marker has an offset and is no record; what was aborted is not told."""
    await state_of(transport).put('mill/a', b'1')
    producer = await transport._journal.producer(f'{unique}.tx')
    await producer.begin()
    topic = f'{unique}.state'
    await producer.produce([NewRecord(topic, b'2', b'mill/b', (), n) for n in range(4)])
    await (producer.commit() if committed else producer.abort())

    assert await snapshot(transport) == {'mill/a': b'1'} | ({'mill/b': b'2'} if committed else {})


async def test_records_of_others_are_passed_over(transport, unique):
    """Without a key, or with one that is none of ours."""
    await state_of(transport).put('mill/a', b'1')
    producer = await transport._journal.producer()
    await producer.produce(
        [NewRecord(f'{unique}.state', b'x', key) for key in (None, b'', b'\xff', b'mill')]
    )
    assert await snapshot(transport) == {'mill/a': b'1'}


async def test_a_deleted_topic_is_made_again(transport, unique):
    """One call fails, or none; the next one finds it."""
    await state_of(transport).put('mill/a', b'1')
    await transport._journal.delete([f'{unique}.state'])
    try:
        await state_of(transport).put('mill/a', b'2')
    except errors.PublishError:
        await state_of(transport).put('mill/a', b'2')
    assert await snapshot(transport) == {'mill/a': b'2'}


async def test_who_comes_late_judges_by_the_clock_of_the_broker(connections, transport, unique):
    """One that has been silent for too long is lost at once, one for a while in the rest of it."""
    seen = Seen().watch(transport)  # makes the topic
    await presence_of(transport).caught_up()
    topic = f'{unique}.presence'
    producer = await transport._journal.producer()
    long_ago = 1_000_000_000_000
    sign = Sign(transport.settings.lease_s, b'1').encode()
    await producer.produce([NewRecord(topic, sign, b'mill', (), 0, long_ago)])
    await seen.until('mill', ('present', b'1'))

    (found,) = [r for r in await records(transport, topic) if r.key == b'mill']
    assert found.timestamp > long_ago, 'it has the time of the broker, not of its writer'
    late = connections.make('late')
    told = Seen().watch(late)
    await connections.connect(late)
    await presence_of(late).caught_up()
    assert told.of('mill') == [('present', b'1')]
    await told.until('mill', ('present', b'1'), ('lost', b'1'))

    later = connections.make('later')
    told = Seen().watch(later)
    await connections.connect(later)
    await presence_of(later).caught_up()
    assert told.of('mill') == [('lost', b'1')]
