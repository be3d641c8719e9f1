"""`send`: values as people type them, on a real Kafka."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from service_scaffold import codecs, errors
from service_scaffold.apps.stream import StreamApp
from service_scaffold.journal.base import Record, TopicPartition
from service_scaffold.journal.partitioner import partition_of
from service_scaffold.streams import records
from service_scaffold.streams.cli.sending import fitting
from service_scaffold.streams.client import connected
from service_scaffold.streams.feature import journal_of


class Order(records.Record):
    account: str
    amount: int = 1


@pytest.fixture
def app(kafka, unique) -> StreamApp:
    app = StreamApp(unique, broker=kafka.url, topic_partitions=3)
    app.topic(f'{unique}.orders', value_type=Order, key_type=str)
    app.topic(f'{unique}.raw', value_serializer='raw', key_type=int)
    app.topic(f'{unique}.free')

    @app.agent(f'{unique}.free', name='listen')
    async def listen(stream): ...

    @app.agent(app.channel(), name='inside')
    async def inside(stream): ...

    return app


@pytest.fixture
def send(app, run) -> Callable[..., Result]:
    """Send to one of the application's topics: `send('orders', '{}', '--key', 'a')`."""

    def send(topic: str, *args: str) -> Result:
        name = topic if topic.startswith('@') else f'{app.id}.{topic}'
        return run(app, 'send', name, *args)

    return send


def read(app: StreamApp, topic: str) -> list[Record]:
    """Return all that stands in a topic of the application."""

    async def read() -> list[Record]:
        journal = await connected(lambda: journal_of(app.application))
        try:
            count = (await journal.partitions([topic]))[topic] or 0
            where = [TopicPartition(topic, number) for number in range(count)]
            ends = await journal.offsets(where, 'end')
            reader = await journal.reader()
            await reader.assign(dict.fromkeys(where, 0))
            found: list[Record] = []
            async with asyncio.timeout(10):
                while len(found) < sum(ends.values()):
                    found += await reader.fetch(100, 0.2)
            return found
        finally:
            await journal.close()

    return asyncio.run(read())


def test_a_value_of_the_declared_type(app, send):
    result = send('orders', '{"account": "a"}', '--key', '7', '--header', 'x=1=2', '--json')

    assert result.exit_code == 0, result.output
    sent = json.loads(result.output)
    (record,) = read(app, f'{app.id}.orders')
    assert json.loads(record.value) == {'account': 'a', 'amount': 1}
    assert (record.key, tuple(record.headers)) == (b'7', (('x', b'1=2'),))
    assert sent == {'topic': record.topic, 'partition': record.partition, 'offset': record.offset}
    assert record.partition == partition_of(b'7', 3)


def test_where_and_when(app, send):
    result = send('free', '5', '--partition', '2', '--timestamp', '2024-01-01T00:00:00Z')

    assert result.output == f'{app.id}.free/2: offset 0\n'
    (record,) = read(app, f'{app.id}.free')
    assert (record.partition, record.timestamp, record.value) == (2, 1704067200_000, b'5')


def test_a_text_and_a_tombstone(app, send):
    send('free', 'hello there', '-k', 'a', '--timestamp', '1.5')
    send('free', 'null', '-k', 'a')

    first, second = read(app, f'{app.id}.free')
    assert (first.value, first.timestamp) == (b'"hello there"', 1500)
    assert (second.value, second.key) == (None, b'a')


def test_as_the_topic_says(app, send):
    send('raw', '12', '--key', '3')

    (record,) = read(app, f'{app.id}.raw')
    assert (record.key, record.value) == (b'3', b'12')


def test_an_agent(app, send):
    assert send('@listen', '1').output.startswith(f'{app.id}.free/')
    assert send('@listen', '1').exit_code == 0


@pytest.mark.parametrize(
    ('args', 'status', 'said'),
    [
        (('orders', '{"acount": "a"}'), 1, 'missing required field `account`'),
        (('raw', 'x', '--key', 'no number'), 1, 'int'),
        (('ordes', '{}'), 1, 'did you mean'),
        (('@lisen', '1'), 1, "did you mean '@listen'?"),
        (('@inside', '1'), 1, 'a channel inside of the worker'),
        (('free', '1', '--header', 'x'), 2, 'NAME=VALUE'),
        (('free', '1', '--timestamp', 'noon'), 2, 'neither epoch seconds'),
        (('free', '1', '--timestamp', '2024-01-01'), 2, 'has no zone'),
        (('free', '1', '--partition', '-1'), 2, 'x>=0'),
    ],
)
def test_mistakes(send, args, status, said):
    result = send(*args)

    assert result.exit_code == status
    assert said in result.stderr
    assert result.stderr.count('\n') == (1 if status == 1 else 4)


def test_a_partition_that_is_not_there(send):
    send('free', '1')

    assert 'has 3 partitions, numbered from 0' in send('free', '1', '--partition', '3').stderr


def test_a_topic_that_nothing_declares(app, run):
    """One that exists may be sent to; a mistake must not make another."""
    other = StreamApp(f'{app.id}-other', broker=app.conf.broker)

    refused = run(other, 'send', f'{app.id}.free', '1')
    run(app, 'send', f'{app.id}.free', '1')
    sent = run(other, 'send', f'{app.id}.free', '{"n": 1}')

    assert (refused.exit_code, sent.exit_code) == (1, 0)
    found = [json.loads(record.value) for record in read(app, f'{app.id}.free')]
    assert sorted(found, key=str) == [1, {'n': 1}]


def test_in_memory_nobody_would_see_it(run):
    app = StreamApp('shop', broker='memory://')
    app.topic('orders')

    result = run(app, 'send', 'orders', '1')

    assert result.exit_code == 1
    assert '--streams-url' in result.stderr


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
async def test_the_worker_of_another_process_handles_it(
    start, kafka, unique, tmp_path, monkeypatch, guarantee
):
    """What a command sends, and what it asks."""
    monkeypatch.setenv('SHOP', unique)
    shop = ('test.streams.cli.shop',)
    options = ('--name', unique, '--broker', kafka.url, '--datadir', str(tmp_path))
    more = ('--web-port', '0', '--processing-guarantee', guarantee)
    worker = await start(*shop, 'worker', *options, *more)

    sender = await start(*shop, 'order', *options)
    assert (await sender.ended(), sender.output) == (0, f'{unique}.orders\n')
    await worker.printed('counted')
    asker = await start(*shop, 'ask', 'a', *options)

    assert (await asker.ended(), asker.output, asker.log) == (0, '3\n', '')
    worker.signal()
    assert await worker.ended() == 0


@pytest.mark.parametrize(
    ('readings', 'annotation', 'value'),
    [
        ([5, '5'], None, 5),
        ([5, '5'], str, '5'),
        ([5, '5'], int, 5),
        (['5', 5], int, 5),
        ([{'account': 'a'}, '…'], Order, Order('a')),
        ([None, 'null'], int, None),
    ],
)
def test_the_reading_that_fits_is_taken(readings: list[Any], annotation: Any, value: Any):
    encode = codecs.lookup(codecs.JSON).encode

    assert fitting(readings, annotation, lambda v: None if v is None else encode(v)) == value


def test_what_does_not_fit_says_why():
    with pytest.raises(errors.InvalidBody, match='int'):
        fitting(['x'], int, codecs.lookup(codecs.JSON).encode)
