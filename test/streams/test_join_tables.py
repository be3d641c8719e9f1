"""Joins with tables, offline."""

from __future__ import annotations

import pytest

from service_scaffold import errors
from service_scaffold.streams.driver import drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.windows import TumblingWindow

GUARANTEES = ['at_least_once', 'exactly_once']


@pytest.mark.parametrize('inside', [True, False])
@pytest.mark.parametrize('how', ['inner', 'left'])
async def test_a_stream_looks_into_a_table(how, inside):
    app = Topology(StreamSettings('shop'))
    orders, users = app.topic('orders'), app.topic('users')
    names = app.Table('names')
    got = []

    @app.agent(users)
    async def keep(stream):
        async for user, name in stream.items():
            names[user] = name

    @app.agent(orders if inside else orders.stream().join(names, how=how))
    async def greet(stream):
        async for order, name in stream.join(names, how=how) if inside else stream:
            got.append((order, name))

    async with drive(app) as t:
        await t.send(users, 'Ann', key='u1')
        await t.settle()
        await t.send(orders, 'o1', key='u1')
        await t.send(orders, 'o2', key='u2')
        await t.send(orders, 'o3')
        await t.settle()
        assert sorted(got) == [('o1', 'Ann')] + (
            [('o2', None), ('o3', None)] if how == 'left' else []
        )


async def test_a_table_with_windows_gives_the_one_that_holds_the_event():
    app = Topology(StreamSettings('shop'))
    orders, visits = app.topic('orders', partitions=2), app.topic('visits', partitions=2)
    seen = app.Table('seen', default=int, window=TumblingWindow(10, grace=100))
    got = []

    @app.agent(visits)
    async def count(stream):
        async for user, _ in stream.items():
            seen[user] += 1

    @app.agent(orders.stream().join(seen, how='left'))
    async def look(stream):
        async for pair in stream:
            got.append(pair)

    async with drive(app) as t:
        for at in (1, 2, 12):
            await t.send(visits, 'v', key='ann', timestamp=at)
        await t.settle()
        for at in (3, 13, 23):
            await t.send(orders, at, key='ann', timestamp=at)
        await t.settle()
        assert got == [(3, 2), (13, 1), (23, None)]


async def test_a_table_of_another_count_that_a_declared_stream_looks_into():
    app = Topology(StreamSettings('shop'))
    orders, users = app.topic('orders', partitions=3), app.topic('users', partitions=2)
    names = app.Table('names')

    @app.agent(users)
    async def keep(stream):
        async for user, name in stream.items():
            names[user] = name

    @app.agent(orders.stream().join(names))
    async def greet(stream):
        async for _ in stream:
            pass

    with pytest.raises(errors.CoPartitionError, match='group_by') as caught:
        async with drive(app):
            pass
    assert 'orders (3 partitions)' in str(caught.value)
    assert 'users (2 partitions)' in str(caught.value)


def two_tables(how, guarantee='at_least_once', **options):
    app = Topology(StreamSettings('shop', guarantee=guarantee))
    prices, stocks = app.topic('prices'), app.topic('stocks')
    price, stock = app.Table('price', **options), app.Table('stock')
    got = []

    def keeper(topic, table):
        async def keep(stream):
            async for key, value in stream.items():
                if value == 'gone':
                    table.pop(key, None)
                else:
                    table[key] = value

        app.agent(topic, name=f'keep-{topic}')(keep)

    keeper(prices, price)
    keeper(stocks, stock)

    @app.agent(price.join(stock, how=how))
    async def watch(stream):
        async for event in stream.events():
            got.append((event.key, event.value))

    return app, prices, stocks, got


@pytest.mark.parametrize('guarantee', GUARANTEES)
@pytest.mark.parametrize('options', [{}, {'ttl': 1000}])
@pytest.mark.parametrize(
    ('how', 'wanted'),
    [
        ('inner', [(1, 5), (2, 5), (2, 6)]),
        ('left', [(1, None), (1, 5), (2, 5), (2, 6), (2, None)]),
        ('outer', [(1, None), (1, 5), (2, 5), (2, 6), (2, None)]),
    ],
)
async def test_a_pair_for_each_change_of_either_table(how, wanted, options, guarantee):
    app, prices, stocks, got = two_tables(how, guarantee, **options)
    async with drive(app) as t:
        for topic, value in ((prices, 1), (stocks, 5), (prices, 2), (stocks, 6), (stocks, 'gone')):
            await t.send(topic, value, key='pen')
            await t.settle()
        assert got == [('pen', pair) for pair in wanted]
        await t.restart(wipe_state=True)
        await t.settle()
        assert len(got) == len(wanted)


async def test_outer_tells_of_keys_that_only_the_other_table_has():
    app, _, stocks, got = two_tables('outer')
    async with drive(app) as t:
        await t.send(stocks, 5, key='pen')
        await t.settle()
        assert got == [('pen', (None, 5))]
        await t.send(stocks, 'gone', key='pen')
        await t.settle()
        assert len(got) == 1


async def test_an_event_that_fails_after_writing_makes_no_pair():
    app = Topology(StreamSettings('shop'))
    orders = app.topic('orders', value_type=int, partitions=2)
    left, right = app.Table('left'), app.Table('right')
    got = []

    @app.agent(orders)
    async def write(stream):
        async for number in stream:
            left['k'] = number
            right['k'] = -number
            if number == 2:
                raise ValueError(number)

    @app.agent(left.join(right))
    async def watch(stream):
        async for pair in stream:
            got.append(pair)

    async with drive(app) as t:
        for number in (1, 2, 3):
            await t.send(orders, number, key='k')
        await t.settle()
        assert got == [(1, -1), (3, -3)], 'one pair an event, none of a failed one'


async def test_tables_of_unequal_counts():
    app = Topology(StreamSettings('shop'))
    left, right = app.Table('left', partitions=2), app.Table('right', partitions=3)

    @app.agent(left.join(right))
    async def watch(stream):
        async for _ in stream:
            pass

    with pytest.raises(errors.CoPartitionError) as caught:
        async with drive(app):
            pass
    for part in ('left (2 partitions)', 'right (3 partitions)', 'group_by'):
        assert part in str(caught.value)


async def test_a_global_table_may_have_other_partitions():
    app = Topology(StreamSettings('shop'))
    orders, users = app.topic('orders', partitions=3), app.topic('users', partitions=2)
    names = app.GlobalTable('names')
    got = []

    @app.agent(users)
    async def keep(stream):
        async for user, name in stream.items():
            names[user] = name

    @app.agent(orders.stream().join(names, how='left'))
    async def greet(stream):
        async for pair in stream:
            got.append(pair)

    async with drive(app) as t:
        for number in range(6):
            await t.send(users, f'U{number}', key=f'u{number}')
        await t.settle()
        for number in range(7):
            await t.send(orders, number, key=f'u{number}')
        await t.settle()
        assert sorted(got, key=str) == [*((n, f'U{n}') for n in range(6)), (6, None)]


@pytest.mark.parametrize('kind', ['SetTable', 'GlobalTable', 'windowed'])
def test_tables_that_cannot_be_joined_to_a_table(kind):
    app = Topology(StreamSettings('shop'))
    plain = app.Table('plain')
    other = (
        app.Table('other', default=int, window=TumblingWindow(10))
        if kind == 'windowed'
        else getattr(app, kind)('other')
    )
    for left, right in ((plain, other), (other, plain)):
        with pytest.raises(errors.StreamError, match='Table other cannot be joined'):
            left.join(right)
