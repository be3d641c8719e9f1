"""What Kafka refuses together is told apart: each record is refused, or not, for itself."""

from __future__ import annotations

import random
import time

import pytest

from service_scaffold import errors
from service_scaffold.journal.base import NewRecord, TopicPartition, TopicSpec
from service_scaffold.journal.kafka import KafkaJournal
from service_scaffold.journal.kafka_client import Access
from service_scaffold.journal.tuning import Tuning

SMALL = {'max.message.bytes': '2000'}


@pytest.fixture(params=[None, 'gzip'])
async def journal(kafka, request):
    tuning = Tuning(compression=request.param)
    journal = KafkaJournal(Access([(kafka.host, kafka.port)], tuning=tuning))
    await journal.connect()
    yield journal
    await journal.close()


@pytest.fixture(params=[False, True], ids=['plain', 'transactional'])
async def producer(journal, unique, request):
    producer = await journal.producer(unique if request.param else None)
    if request.param:
        await producer.begin()
    return producer


async def content(journal, producer, topic):
    """Return the values of the topic's one partition, after the end of a transaction."""
    if producer._open:
        await producer.commit()
    where = TopicPartition(topic, 0)
    end = (await journal.offsets([where], 'end'))[where]
    reader = await journal.reader()
    await reader.assign({where: 0})
    found = []
    while reader.position(where) < end:
        found += await reader.fetch(1000, 0.2)
    await reader.close()
    return found


@pytest.mark.parametrize('count', [10, 200], ids=['one by one', 'in batches'])
async def test_a_batch_that_is_larger_than_the_topic_takes_is_split(
    journal, producer, unique, count
):
    """Nobody is refused, since each would do by itself; the order stays."""
    await journal.create([TopicSpec(unique, 1, config=SMALL)])
    now = int(time.time() * 1000)  # older ones would not be kept
    values = [bytes([n]) * 3 + noise(n, 400) for n in range(count)]
    confirmed = []

    outcome = await producer.produce(
        [
            NewRecord(unique, value, b'%d' % n, (('h', b'%d' % n),), timestamp=now + n)
            for n, value in enumerate(values)
        ],
        confirmed.extend,
    )

    assert outcome == list(range(count))
    found = await content(journal, producer, unique)
    assert [record.value for record in found] == values
    assert [record.key for record in found] == [b'%d' % n for n in range(count)]
    assert [record.timestamp for record in found] == [now + n for n in range(count)]
    assert [dict(record.headers)['h'] for record in found] == [b'%d' % n for n in range(count)]
    assert sorted(confirmed) == list(range(count))


@pytest.mark.parametrize('count', [10, 200], ids=['one by one', 'in batches'])
async def test_only_what_is_too_large_itself_is_refused(journal, producer, unique, count):
    """Not the largest of those that went with it, nor all of them."""
    await journal.create([TopicSpec(unique, 1, config=SMALL)])
    values = [noise(n, 1200) for n in range(count)]
    for n in (3, 7):
        values[n] = noise(n, 2500 + n)
    confirmed = []

    outcome = await producer.produce(
        [NewRecord(unique, value) for value in values], confirmed.extend
    )

    refused = [n for n, each in enumerate(outcome) if isinstance(each, Exception)]
    assert refused == [3, 7]
    assert all(isinstance(outcome[n], errors.TooLarge) for n in refused)
    offsets = [each for each in outcome if isinstance(each, int)]
    assert offsets == list(range(count - 2))
    found = await content(journal, producer, unique)
    assert [record.value for record in found] == [
        v for n, v in enumerate(values) if n not in (3, 7)
    ]
    assert sorted(confirmed) == [n for n in range(count) if n not in (3, 7)]


@pytest.mark.parametrize('count', [10, 100], ids=['one by one', 'in batches'])
async def test_only_what_has_no_key_is_refused_of_a_compacted_topic(
    journal, producer, unique, count
):
    await journal.create([TopicSpec(unique, 1, config={'cleanup.policy': 'compact'})])
    records = [NewRecord(unique, b'v', b'%d' % n) for n in range(count)]
    records[5] = NewRecord(unique, b'larger than the others')

    outcome = await producer.produce(records)

    assert [n for n, each in enumerate(outcome) if isinstance(each, errors.InvalidRecord)] == [5]
    assert [each for each in outcome if isinstance(each, int)] == list(range(count - 1))
    found = await content(journal, producer, unique)
    assert len(found) == count - 1
    assert await producer_goes_on(producer, unique) >= count - 1


async def producer_goes_on(producer, topic):
    """Append one more; numbers of records that were refused must not be missing."""
    transactional = producer._sender is not None and producer._producer._txn_manager is not None
    if transactional:
        await producer.begin()
    (offset,) = await producer.produce([NewRecord(topic, b'more', b'k')])
    if transactional:
        await producer.commit()
    return offset


def noise(seed: int, size: int) -> bytes:
    """Return bytes that cannot be compressed, the same each time."""
    return random.Random(seed).randbytes(size)
