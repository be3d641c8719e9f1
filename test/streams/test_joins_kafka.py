"""A join over a real Kafka: workers that come and go, both guarantees."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from service_scaffold import features, options, scheduler, streams
from service_scaffold.journal.base import NewRecord, TopicPartition, TopicSpec
from service_scaffold.journal.kafka import KafkaJournal
from service_scaffold.journal.kafka_client import Access
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.worker import Worker

PARTITIONS = 2
VALUES = 400
WITHIN = 2
END = 1_000_000
START_S, RESULT_S = 60.0, 60.0


@pytest.fixture
async def journal(kafka):
    host, _, port = kafka.url.removeprefix('kafka://').partition(':')
    journal = KafkaJournal(Access([(host, int(port))]))
    await journal.connect()
    yield journal
    await journal.close()


@asynccontextmanager
async def worker(url, settings, left, right, grace=END / 100):
    """Run one worker that joins two topics."""
    app = web.Application()
    parser = options.create_parser(settings.id)
    options.store_config(app, options.parse(parser, ['--eventbus-url', url]))
    scheduler.setup(app)
    streams.setup(app, settings)
    topology = streams.get_streams(app)
    joined = (
        topology.topic(left)
        .stream()
        .join(topology.topic(right).stream(), within=WITHIN, how='outer', grace=grace, name='j')
    )
    out = topology.topic(f'{settings.id}-out')

    @topology.agent(joined, sink=[out])
    async def pass_on(stream):
        async for pair in stream:
            yield list(pair)

    lifecycle = features.get_lifecycle(app)
    await lifecycle.start()
    try:
        async with asyncio.timeout(START_S):
            await features.get(app, Worker).until_joined()
        yield
    finally:
        await lifecycle.shutdown()


def some(rng, topic):
    """Return records of one side, in the order of their time."""
    times = sorted(rng.randrange(100_000) for _ in range(VALUES))
    return [
        NewRecord(topic, b'"%d"' % n, b'k%d' % rng.randrange(20), (), None, at)
        for n, at in enumerate(times)
    ]


def wanted(left, right):
    pairs = [
        (a.value, b.value)
        for a in left
        for b in right
        if a.key == b.key and abs(a.timestamp - b.timestamp) <= WITHIN * 1000
    ]
    met = [{pair[side] for pair in pairs} for side in (0, 1)]
    pairs += [(a.value, b'null') for a in left if a.value not in met[0]]
    pairs += [(b'null', b.value) for b in right if b.value not in met[1]]
    return Counter(b'[%s,%s]' % pair for pair in pairs)


def ends(topic):
    """Return the end of time for each partition: whatever is alone by then is passed on."""
    return [NewRecord(topic, b'"end"', b'k', (), n, END * 1000) for n in range(PARTITIONS)]


async def read_until(journal, topic, enough):
    """Return the committed values of a topic, as soon as they are enough."""
    reader = await journal.reader()
    await reader.assign({TopicPartition(topic, n): 0 for n in range(PARTITIONS)})
    found = Counter()
    try:
        async with asyncio.timeout(RESULT_S):
            while not enough(found):
                found.update(record.value for record in await reader.fetch(5000, 0.2))
    except TimeoutError:
        pass  # the comparison says what is missing
    await reader.close()
    return found


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
async def test_what_lies_there_is_taken_by_time_without_any_grace(
    kafka, journal, unique, guarantee
):
    """One side was written long before the other: that must not make the other one late."""
    left, right, out = f'{unique}-left', f'{unique}-right', f'{unique}-out'
    await journal.create([TopicSpec(name, PARTITIONS) for name in (left, right, out)])
    rng = random.Random(guarantee)
    sides = some(rng, left), some(rng, right)
    producer = await journal.producer()
    for side in sides:
        await producer.produce(side)
    await producer.produce(ends(left))
    settings = StreamSettings(
        unique, guarantee=guarantee, topic_partitions=PARTITIONS, checkpoint_s=0.2
    )
    expected = wanted(*sides)
    async with worker(kafka.url, settings, left, right, grace=0):
        found = await read_until(journal, out, lambda seen: seen.total() >= expected.total())
    assert found == expected


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
async def test_workers_that_come_and_go_join_everything(kafka, journal, unique, guarantee):
    left, right, out = f'{unique}-left', f'{unique}-right', f'{unique}-out'
    await journal.create([TopicSpec(name, PARTITIONS) for name in (left, right, out)])
    rng = random.Random(guarantee)
    sides = some(rng, left), some(rng, right)
    producer = await journal.producer()

    async def send(part):
        records = [record for side in sides for record in side[part]]
        assert not [x for x in await producer.produce(records) if isinstance(x, Exception)]

    settings = StreamSettings(
        unique, guarantee=guarantee, topic_partitions=PARTITIONS, checkpoint_s=0.2
    )
    await send(slice(0, 150))
    async with worker(kafka.url, settings, left, right):
        await send(slice(150, 250))
        async with worker(kafka.url, settings, left, right):
            await send(slice(250, 330))
    async with worker(kafka.url, settings, left, right):
        await send(slice(330, VALUES))
        await producer.produce(ends(left))
        expected = wanted(*sides)
        found = await read_until(journal, out, lambda seen: expected.keys() <= seen.keys())
    if guarantee == 'exactly_once':
        assert found == expected
    else:
        assert found.keys() == expected.keys(), 'repeated at most, never wrong'
