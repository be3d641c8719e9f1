"""Records that the log does not take: the event that has sent one is judged, the others go on."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from service_scaffold import errors
from service_scaffold.journal.base import NewRecord, TopicPartition
from service_scaffold.streams.decision import Decision
from service_scaffold.streams.driver import drive
from service_scaffold.streams.refusals import Refusals, Refused, is_final
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topic import TopicOptions
from service_scaffold.streams.topology import Topology
from test.chaos.stream_workers import connected
from test.streams.test_rpc_kafka import Instance

LIMIT = {'max.message.bytes': '2000'}
FINAL = errors.PublishError('no', phase='confirm', maybe_sent=False)


@pytest.fixture(params=['at_least_once', 'exactly_once'])
def app(request: pytest.FixtureRequest) -> Topology:
    return Topology(StreamSettings('shop', guarantee=request.param, drain_s=0.1))


@pytest.mark.parametrize(
    ('error', 'wanted'),
    [
        (FINAL, True),
        (errors.PublishError('later', phase='confirm'), False),
        (errors.ConnectionLost('gone'), False),
        (errors.Fenced('gone'), False),
        (errors.JournalError('invalid'), True),
        (errors.BindingRefused('no topic'), False),
        (errors.AccessRefused('not now'), False),
    ],
)
def test_what_may_pass_another_time_is_not_final(error, wanted):
    assert is_final(error) is wanted


def test_a_dead_letter_that_was_refused_leaves_its_value_out():
    refusals, letter = Refusals(), NewRecord('t.dlq', b'v', b'k')
    assert refusals.fitting(letter) is letter
    refusals.learn(Refused(letter, FINAL))
    assert refusals.fitting(letter) == NewRecord('t.dlq', None, b'k')


async def test_an_event_that_sends_what_is_refused_is_dead_lettered(app):
    numbers = app.topic('numbers', value_type=int)
    out, echo = app.topic('out', partitions=2), app.topic('echo')

    @app.agent(numbers, sink=[echo])
    async def work(stream):
        async for n in stream:
            await out.send(value=n, partition=7 if n == 1 else 0)
            yield n

    async with drive(app) as t:
        for n in range(4):
            await t.send(numbers, n, key='k')
        await t.settle()
        (letter,) = t.read('numbers.dlq')
        assert letter.value == 1
        assert b'no partition 7' in letter.headers['x-death-error']
        assert {event.value for event in t.read(out)} == {0, 2, 3}
        if app.settings.guarantee == 'exactly_once':
            assert [event.value for event in t.read(echo)] == [0, 2, 3]


async def test_a_letter_that_is_refused_itself_comes_without_its_value(app):
    """As that of a record that is as large as the log takes: with its headers it is larger."""
    numbers = app.topic('numbers', value_type=int)
    app.topic('numbers.dlq', partitions=1)

    @app.agent(numbers, on_error=lambda agent, error: Decision.DEAD_LETTER)
    async def work(stream):
        async for n in stream:
            raise ValueError(n)

    letter = NewRecord('numbers.dlq', b'1', b'k', timestamp=5000)
    app.refusals.learn(Refused(letter, FINAL))
    async with drive(app) as t:
        await t.send(numbers, 1, key='k', timestamp=5)
        await t.settle()
        (found,) = t.read('numbers.dlq')
        assert (found.key, found.value, found.headers['x-origin']) == ('k', None, b'numbers')


async def test_a_channels_agent_goes_on_without_what_is_refused(app):
    box, out = app.channel(value_type=int), app.topic('out', partitions=2)

    @app.agent(box)
    async def work(stream):
        async for n in stream:
            await out.send(value=n, partition=7 if n == 1 else 0)

    async with drive(app) as t:
        for n in range(4):
            await t.send(box, n)
        await t.settle()
        assert [event.value for event in t.read(out)] == [0, 2, 3]


async def test_a_header_that_no_record_can_have_fails_the_attempt(app):
    with pytest.raises(errors.EncodeError, match='Header n'):
        app.topic('out').record(None, 1, headers={'n': 5})


async def test_a_value_that_the_changelog_does_not_take_fails_the_attempt_that_writes_it(app):
    numbers = app.topic('numbers', value_type=int, partitions=1)
    table = app.Table('texts', value_type=str, options=TopicOptions(compacting=True, config=LIMIT))

    @app.agent(numbers)
    async def work(stream):
        async for n in stream:
            table[f'k{n}'] = 'x' * (5_000 if n == 1 else 10)

    async with drive(app) as t:
        for n in range(3):
            await t.send(numbers, n)
        await t.settle()
        (letter,) = t.read('numbers.dlq')
        assert letter.value == 1
        assert (
            b'Table texts: A record for shop-texts-changelog with key'
            in (letter.headers['x-death-error'])
        )
        assert sorted(table.keys()) == ['k0', 'k2']


async def test_a_list_that_grows_too_large_costs_each_event_that_would_add_to_it(app):
    """More often than refusals may come one after the other: each is one event's."""
    numbers = app.topic('numbers', value_type=int, partitions=1)
    table = app.Table('lists', default=list, options=TopicOptions(compacting=True, config=LIMIT))

    @app.agent(numbers, on_error=lambda agent, error: Decision.SKIP)
    async def work(stream):
        async for n in stream:
            table['all'] = [*table['all'], 'x' * (100 * n)]

    async with drive(app) as t:
        for n in (1, 2, *[20] * 14, 3):
            await t.send(numbers, n)
        await t.settle()
        assert [len(x) // 100 for x in table['all']] == [1, 2, 3]


async def test_what_belongs_to_no_attempt_and_is_refused_stops_the_application(app):
    """A value that waited for a partner in vain is passed on when time goes on."""
    left, right = (app.topic(name, value_type=str, partitions=1) for name in ('left', 'right'))
    pairs = left.stream().left_join(right.stream(), within=1.0, name='both')
    pairs.source.options = TopicOptions(config=LIMIT)

    @app.agent(pairs)
    async def work(stream):
        async for _ in stream:
            pass

    async with drive(app) as t:
        await t.send(left, 'x' * 5_000, key='k', timestamp=10)
        await t.send(left, 'x', key='k', timestamp=20)
        with pytest.raises(errors.StreamError, match="shop-both-pairs with key b'k', of 50"):
            await t.settle()


async def test_a_pair_that_is_refused_fails_the_event_that_makes_it(app):
    left, right = (app.topic(name, value_type=str, partitions=1) for name in ('left', 'right'))
    pairs = left.stream().join(right.stream(), within=1.0, name='both')
    pairs.source.options = TopicOptions(config=LIMIT)
    found = []

    @app.agent(pairs)
    async def work(stream):
        async for pair in stream:
            found.append(pair)

    async with drive(app) as t:
        await t.send(left, 'x' * 1_000, key='k', timestamp=10)
        await t.send(right, 'y' * 1_200, key='k', timestamp=10)
        await t.send(right, 'y', key='k', timestamp=10)
        await t.settle()
        assert len(t.read('right.dlq')) == 1
    assert [pair[1] for pair in found] == ['y']


async def test_a_record_without_a_key_for_a_topic_that_is_compacted_fails_its_attempt(app):
    """Declared so elsewhere: only the log knows."""
    numbers = app.topic('numbers', value_type=int, partitions=1)
    out = app.topic('out', partitions=1, config={'cleanup.policy': 'compact'})

    @app.agent(numbers)
    async def work(stream):
        async for n in stream:
            await out.send(key=None if n == 1 else 'k', value=n)

    async with drive(app) as t:
        for n in range(3):
            await t.send(numbers, n)
        await t.settle()
        (letter,) = t.read('numbers.dlq')
        assert letter.value == 1
        assert {event.value for event in t.read(out)} == {0, 2}


async def test_a_dead_letter_that_is_refused_even_without_its_value_stops_the_application(app):
    numbers = app.topic('numbers', value_type=int, partitions=1)
    app.topic('numbers.dlq', partitions=1, compacting=True)  # and has no key

    @app.agent(numbers, on_error=lambda agent, error: Decision.DEAD_LETTER)
    async def work(stream):
        async for n in stream:
            raise ValueError(n)

    async with drive(app) as t:
        await t.send(numbers, 1)
        with pytest.raises(errors.StreamError, match=r'numbers\.dlq without a key, of 0 bytes'):
            await t.settle()


def test_refusals_that_are_never_the_same_end_too():
    """As of records that have the time in them: no attempt is ever found that sends one again."""
    refusals = Refusals()
    told = [
        refusals.learn(Refused(NewRecord('t', b'v' * n, b'k'), FINAL), soon=True) for n in range(11)
    ]
    assert told == [True] * 10 + [False]
    assert refusals.learn(Refused(NewRecord('t', b'v' * 99, b'k'), FINAL))


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
@pytest.mark.parametrize('fault', ['size', 'partition', 'key', 'policy', 'table'])
async def test_kafka_refuses_one_and_takes_the_others(kafka, unique, guarantee, fault):
    settings = StreamSettings(unique, guarantee=guarantee, topic_partitions=2, checkpoint_s=0.2)
    one = Instance(kafka.url, settings)
    app = one.topology
    numbers = app.topic(f'{unique}.in', value_type=int, partitions=2)
    config = {'cleanup.policy': 'compact'} if fault == 'policy' else {}
    out = app.topic(f'{unique}.out', partitions=2, compacting=fault == 'key', config=config)
    limited = TopicOptions(compacting=True, config=LIMIT)
    table = app.Table('texts', value_type=str, partitions=2, options=limited)

    @app.agent(numbers)
    async def work(stream):
        async for n in stream:
            bad = n == 1
            table[f'k{n}'] = 'x' * (50_000 if bad and fault == 'table' else 10)
            await out.send(
                key=None if bad and fault in ('key', 'policy') else f'k{n}',
                value='x' * 2_000_000 if bad and fault == 'size' else n,
                partition=9 if bad and fault == 'partition' else None,
            )

    async with one.running():
        for n in range(4):
            await numbers.send(key='k', value=n)
        journal = await connected(kafka.url)
        try:
            async with asyncio.timeout(40):
                found = Counter()
                reader = await journal.reader()
                await reader.assign({TopicPartition(out.name, n): 0 for n in range(2)})
                while not found.keys() >= {b'0', b'2', b'3'}:
                    found.update(record.value for record in await reader.fetch(100, 0.2))
                await reader.close()
                dead = f'{numbers.name}.dlq'
                while not (await journal.partitions([dead]))[dead]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                reader = await journal.reader()
                await reader.assign({TopicPartition(dead, n): 0 for n in range(2)})
                letters = []
                while not letters:
                    letters += await reader.fetch(100, 0.2)
                await reader.close()
        finally:
            await journal.close()
    assert [letter.value for letter in letters] == [b'1']
    sent = fault == 'table' and guarantee == 'at_least_once'  # before the table was logged
    assert found.keys() - {b'1' if sent else b''} == {b'0', b'2', b'3'}
    assert guarantee == 'at_least_once' or set(found.values()) == {1}
