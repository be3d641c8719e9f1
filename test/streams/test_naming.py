"""What an application declares is checked where it is declared."""

from __future__ import annotations

import pytest

from service_scaffold import errors
from service_scaffold.journal.base import NewRecord, TopicSpec
from service_scaffold.journal.memory_log import LogRecord
from service_scaffold.streams.driver import drive
from service_scaffold.streams.records import Record
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology


@pytest.fixture
def app() -> Topology:
    return Topology(StreamSettings('shop'))


async def body(stream): ...


@pytest.mark.parametrize('name', ['', 'a b', 'a/b', 'größe', '.', '..', 'x' * 250, 'a\n'])
def test_a_name_that_no_broker_takes_is_refused(app, name):
    """On every log: what runs in memory runs on Kafka."""
    with pytest.raises(errors.ConfigError, match='not a name for a topic'):
        app.topic(name)


def test_so_are_names_that_topics_are_made_of(app):
    with pytest.raises(errors.ConfigError, match='shop-a/b-changelog'):
        app.Table('a/b')
    with pytest.raises(errors.ConfigError, match='shop-a/b'):
        app.agent(name='a/b')(body)
    with pytest.raises(errors.ConfigError, match='no/where'):
        app.topic('where', root='no/')
    with pytest.raises(errors.ConfigError, match='sh:op-workers'):
        Topology(StreamSettings('sh:op'))
    assert app.topic('a.b_c-1').name == 'a.b_c-1'


def test_an_agent_reads_what_can_have_dead_letters(app):
    """The topic may be as long as a broker takes where nobody reads it."""
    longest = app.topic('x' * 249)
    with pytest.raises(errors.ConfigError, match=r"x{249}\.dlq' \(the dead letters of 'x{249}'"):
        app.agent(longest)(body)
    app.agent(app.topic('x' * 245), sink=[longest])(results)
    with pytest.raises(errors.ConfigError, match=r"'a b\.dlq' .* which agent other reads"):
        app.agent(app.channel(name='a b'), name='other')(body)


async def results(stream):
    yield 1


async def test_what_stands_in_between_has_a_name_too(app):
    orders = app.topic('o' * 225, value_type=Order)
    with pytest.raises(errors.ConfigError, match='made by group_by, of events from ooo'):
        orders.stream().group_by(Order.account)
    short = app.topic('orders', value_type=Order)
    with pytest.raises(errors.ConfigError, match='shorter name='):
        short.stream().join(orders.stream(), within=1, name='j' * 245)
    left, right = app.Table('left'), app.Table('right')
    with pytest.raises(errors.ConfigError, match='for pairs of a join of tables'):
        left.join(right, name='j' * 245)

    @app.agent(short)
    async def work(stream):
        async for _ in stream.group_by(Order.account, name='g' * 225):
            pass

    with pytest.raises(errors.ConfigError, match=r'g{225}-repartition\.dlq'):
        await app.discover()


def test_what_the_id_makes_of_names_is_checked_when_it_is_known(app):
    with pytest.raises(errors.ConfigError, match='reply_to'):
        Topology(StreamSettings('x' * 205))
    with pytest.raises(errors.ConfigError, match=r"'a b-workers' \(made of the id 'a b'"):
        app.configure(StreamSettings('a b'))
    app.configure(StreamSettings('shop'))
    app.Table('t' * 200)
    with pytest.raises(errors.ConfigError, match="made of the id 'xxx"):
        app.configure(StreamSettings('x' * 100))


async def test_a_topic_that_matches_and_can_have_no_dead_letters_is_told_of(app, caplog):
    """It is nobody's declaration, so the others go on."""
    several, found = app.topic(pattern='in-.*', value_type=int), []

    @app.agent(several)
    async def work(stream):
        async for n in stream:
            found.append(n)

    app.topic('in-1', partitions=1)
    async with drive(app) as t:
        t._broker.topic(TopicSpec('in-' + 'x' * 246, 1))
        for _ in range(3):
            await t.send('in-1', 1)
            await t.settle()
            await t.advance(2)
    assert found == [1, 1, 1]
    (told,) = [one for one in caplog.records if 'is not read' in one.message]
    assert 'in-xxx' in told.message


@pytest.mark.parametrize(
    ('options', 'told'),
    [
        ({'partitions': 0}, 'partitions must be 1 or more'),
        ({'replicas': -1}, 'replicas must be 1 or more'),
        ({'retention': 0}, 'retention must be more than 0'),
    ],
)
def test_numbers_that_are_too_small(app, options, told):
    with pytest.raises(ValueError, match=told):
        app.topic('orders', **options)


def test_an_agent_that_cannot_be(app):
    with pytest.raises(ValueError, match='whole number'):
        app.agent(concurrency=1.5)(body)
    with pytest.raises(TypeError, match=r"sink=\['audit'\]"):
        app.agent(sink='audit')


async def test_an_event_of_nobody_goes_to_topics_not_names(app):
    event = app.topic('orders').decode(LogRecord('orders', 0, 0, 0, None, b'1', ()))
    with pytest.raises(TypeError, match=r"app\.topic\('copies'\)"):
        await event.forward('copies')
    with pytest.raises(TypeError, match=r"app\.topic\('copies'\)"):
        await event.send('copies', value=1)


def test_what_takes_no_values_is_refused(app):
    with pytest.raises(TypeError, match='takes no values'):
        app.topic('orders').stream().echo(5)


class Order(Record):
    account: str
    amount: int


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
@pytest.mark.parametrize('inside', [False, True])
async def test_names_stand_for_topics(guarantee, inside):
    app = Topology(StreamSettings('shop', guarantee=guarantee))
    orders, found = app.topic('orders', value_type=Order, partitions=3), []

    declared = orders.stream().echo('copies').through('between')
    declared = declared.group_by(Order.account, topic='by-account')

    @app.agent(orders if inside else declared)
    async def work(stream):
        if inside:
            stream = stream.echo('copies').through('between')
            stream = stream.group_by(Order.account, topic='by-account')
        async for event in stream.events():
            found.append((event.topic, event.key, event.value))
            await event.send('sent', key=event.key, value=event.value.amount)
            await event.forward('forwarded')

    async with drive(app) as t:
        await t.send(orders, Order(account='a', amount=5), key='k')
        await t.settle()
        assert found == [('by-account', 'a', Order(account='a', amount=5))]
        assert [event.value['amount'] for event in t.read('copies')] == [5]
        assert [(event.key, event.value) for event in t.read('sent')] == [('a', 5)]
        assert [event.value for event in t.read('forwarded')] == [{'account': 'a', 'amount': 5}]
        assert len(t._broker.topics['between'].partitions) == 3
        assert len(t._broker.topics['by-account'].partitions) == 3
    assert not app.topics['between'].internal  # a reset leaves it alone


@pytest.mark.parametrize('counts', [(3, 5), (None, 2)])
async def test_two_groupings_of_one_name_ask_for_the_same_partitions(app, counts):
    orders = app.topic('orders', value_type=Order)
    for number, partitions in enumerate(counts):
        stream = orders.stream().group_by(Order.account, partitions=partitions)
        app.agent(stream, name=f'agent{number}')(body)
    with pytest.raises(errors.ConfigError, match='two different things'):
        await app.discover()


async def test_headers_of_one_name_stay_apart_on_the_way(app):
    words, found = app.topic('words', partitions=1), []

    @app.agent(words)
    async def work(stream):
        stream = stream.add_processor(str.upper).group_by(lambda word: word, name='itself')
        async for event in stream.events():
            found.append((event.value, event.message.headers))

    async with drive(app) as t:
        pairs = (('trace', b'1'), ('trace', b'2'), ('\udcff', b'\xff'))
        await t._append(NewRecord('words', b'"a"', b'k', pairs))
        await t.settle()
    assert found == [('A', pairs)]
