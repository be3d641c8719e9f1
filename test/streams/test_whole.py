"""Whole topologies on the log in memory."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold import errors
from service_scaffold.streams.driver import drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology


@pytest.mark.parametrize('guarantee', ['at_most_once', 'at_least_once', 'exactly_once'])
async def test_count(guarantee):
    app = Topology(StreamSettings('shop', guarantee=guarantee))
    orders = app.topic('orders')
    out = app.topic('out')
    counts = app.Table('counts', default=int)

    @app.agent(orders, sink=[out])
    async def count(stream):
        async for order in stream:
            counts[order['who']] += 1
            yield counts[order['who']]

    async with drive(app) as t:
        for n in range(10):
            await t.send(orders, {'who': f'a{n % 2}'}, key=f'a{n % 2}')
        await t.settle()
        assert counts['a0'] == 5
        assert sorted(e.value for e in t.read('out')) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
        await t.restart()
        await t.send(orders, {'who': 'a0'}, key='a0')
        await t.settle()
        assert counts['a0'] == 6
        await t.restart(wipe_state=True)
        await t.send(orders, {'who': 'a0'}, key='a0')
        await t.settle()
        assert counts['a0'] == 7
        assert counts['a1'] == 5


async def test_group_by():
    app = Topology(StreamSettings('shop'))
    orders = app.topic('orders')
    counts = app.Table('counts', default=int)

    @app.agent(orders)
    async def count(stream):
        async for order in stream.group_by(lambda o: o['who'], name='who'):
            counts[order['who']] += 1

    async with drive(app) as t:
        for n in range(10):
            await t.send(orders, {'who': f'a{n % 2}'}, key=f'x{n}')
        await t.settle()
        assert dict(counts.items()) == {'a0': 5, 'a1': 5}
        assert len(t.read('shop-count-who-repartition')) == 10


async def test_fail():
    app = Topology(StreamSettings('shop'))
    orders = app.topic('orders', value_type=int)
    out = app.topic('out')
    table = app.Table('t', default=int)
    tries = []

    @app.agent(orders, sink=[out])
    async def work(stream):
        async for n in stream:
            tries.append(n)
            table['x'] += 1
            if n == 5:
                raise ValueError('five')
            yield n

    async with drive(app) as t:
        for n in range(8):
            await t.send(orders, n, key='k')
        await t.send(orders, 'bad', key='k')
        await t.settle()
        assert tries.count(5) == 3
        assert [e.value for e in t.read('out')] == [0, 1, 2, 3, 4, 6, 7]
        assert [e.value for e in t.read('orders.dlq')] == [5, 'bad']
        assert table['x'] == 7


async def test_take():
    app = Topology(StreamSettings('shop'))
    orders = app.topic('orders', value_type=int)
    got = []

    @app.agent(orders)
    async def work(stream):
        async for batch in stream.take(3, within=10):
            got.append(batch)

    async with drive(app) as t:
        for n in range(8):
            await t.send(orders, n, key='k')
        await t.settle()
        assert got == [[0, 1, 2], [3, 4, 5]]
        await t.restart()
        assert got == [[0, 1, 2], [3, 4, 5]]
        await t.advance(11)
        assert got == [[0, 1, 2], [3, 4, 5], [6, 7]]


async def test_a_table_of_another_partition_count_stops_the_application() -> None:
    """What the start could not see: the table is found in a dict at the first write."""
    app = Topology(StreamSettings('shop'))
    orders = app.topic('orders', partitions=4)
    tables = {'counts': app.Table('counts', default=int, partitions=2)}

    @app.agent(orders)
    async def count(stream):
        async for _ in stream:
            tables['counts']['all'] += 1

    async with drive(app) as t:
        await t.send(orders, 1, key='k')
        with pytest.raises(errors.CoPartitionError) as caught:
            await t.settle()
    assert 'counts has 2 partitions, but it is used by an agent of orders, with 4' in str(
        caught.value
    )
    assert 'group_by' in str(caught.value)


async def test_a_damaged_store_is_built_again_and_no_event_is_blamed() -> None:
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
        for state in counts.here.values():
            state.store.close()  # as a store does that finds its file damaged
        await t.send(orders, 'b')
        await t.settle()
        assert dict(counts.items()) == {'a': 1, 'b': 1}
        assert t.read('orders.dlq') == []


async def test_pop_and_setdefault_of_a_missing_key_are_those_of_a_dict():
    """The table's own default is no value that a key has."""
    app = Topology(StreamSettings('shop'))
    table = app.Table('t', default=int)
    seen = []

    @app.agent(app.topic('orders'))
    async def work(stream):
        async for key in stream:
            seen.append(table.pop(key, None))
            seen.append(table.setdefault(key, 5))
            seen.append(table.setdefault(key, 6))
            seen.append(table.pop(key))
            with pytest.raises(KeyError):
                table.pop(key)

    async with drive(app) as t:
        await t.send('orders', 'a', key='a')
        await t.settle()

    assert seen == [None, 5, 5, 5]


async def test_a_sink_may_be_named_and_what_is_none_is_refused_at_once():
    app = Topology(StreamSettings('shop'))

    @app.agent('numbers', sink=['doubles'])
    async def double(stream):
        async for n in stream:
            yield 2 * n

    with pytest.raises(TypeError, match='agent double: 5 is no sink'):
        double.add_sink(5)
    async with drive(app) as t:
        await t.send('numbers', 21)
        await t.settle()

        assert [event.value for event in t.read('doubles')] == [42]


async def test_time_does_not_stop_for_topics_that_nobody_has_written():
    """A day is over at once, and the topic is read as soon as there is one."""
    app = Topology(StreamSettings('shop'))
    seen = []

    @app.agent('never-before')
    async def work(stream):
        async for value in stream:
            seen.append(value)

    @app.timer(86_400.0)
    async def begin():
        await app.send('never-before', value='now')

    async with drive(app) as t:
        async with asyncio.timeout(30):
            await t.advance(86_400)

        assert seen == ['now']
