"""Whole topologies on the log in memory."""

from __future__ import annotations

import pytest

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
        assert counts['a0'] == 7 and counts['a1'] == 5


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
