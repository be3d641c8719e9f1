"""Joins of streams, offline."""

from __future__ import annotations

import asyncio
import random

import pytest

from service_scaffold import errors
from service_scaffold.streams.driver import drive
from service_scaffold.streams.joins import AT_ONCE
from service_scaffold.streams.records import Record
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology

GUARANTEES = ['at_least_once', 'exactly_once']


class Order(Record):
    user: str
    amount: int


class Join:
    """An application that joins orders and payments, and what comes of it."""

    def __init__(self, guarantee='at_least_once', partitions=4, counts=None, **options):
        self.app = Topology(StreamSettings('shop', guarantee=guarantee))
        left, right = counts or (partitions, partitions)
        self.orders = self.app.topic('orders', partitions=left)
        self.payments = self.app.topic('payments', partitions=right)
        self.got = got = []
        joined = self.orders.stream().join(
            self.payments.stream(), **{'within': 10, 'name': 'paid', **options}
        )

        @self.app.agent(joined)
        async def settle(stream):
            async for event in stream.events():
                got.append((event.key, *event.value, event.timestamp))

    def remembered(self, t):
        """Return what the changelog has of values that wait."""
        last = {}
        for event in t.read('shop-paid-join-changelog'):
            last[event.partition, event.message.key] = event.message.value
        return [key for (_, key), value in last.items() if value is not None and key[:1] in b'dx']

    def take(self):
        """Return what has come since the last call, sorted."""
        taken = sorted(self.got, key=str)
        self.got.clear()
        return taken


# Pairs


@pytest.mark.parametrize('guarantee', ['at_most_once', *GUARANTEES])
@pytest.mark.parametrize('how', ['inner', 'left', 'outer'])
async def test_pairs_within_and_each_unmatched_once(guarantee, how):
    join = Join(guarantee, how=how)
    async with drive(join.app) as t:
        await t.send(join.orders, 'o1', key='a', timestamp=1)
        await t.send(join.payments, 'p1', key='a', timestamp=11)
        await t.send(join.payments, 'p2', key='a', timestamp=11.001)
        await t.send(join.orders, 'o2', key='b', timestamp=5)
        await t.settle()
        assert join.take() == [('a', 'o1', 'p1', 11)]
        await t.advance(30)
        lonely_left = [('b', 'o2', None, 5)]
        lonely_right = [('a', None, 'p2', 11.001)]
        wanted = {'inner': [], 'left': lonely_left, 'outer': lonely_right + lonely_left}
        assert join.take() == wanted[how]
        await t.restart()
        await t.advance(30)
        assert join.take() == []


async def test_unmatched_comes_only_when_time_and_grace_have_passed():
    join = Join(how='left', grace=5)
    async with drive(join.app) as t:
        await t.send(join.orders, 'o', key='a', timestamp=0)
        await t.settle()
        await t.advance(15)
        assert join.take() == []
        await t.advance(0.001)
        assert join.take() == [('a', 'o', None, 0)]


async def test_events_move_time_as_well():
    join = Join(how='outer', partitions=1)
    async with drive(join.app) as t:
        await t.send(join.orders, 'o', key='a', timestamp=0)
        await t.send(join.payments, 'p', key='b', timestamp=10)
        await t.settle()
        assert join.take() == []
        await t.send(join.payments, 'q', key='c', timestamp=10.001)
        await t.settle()
        assert join.take() == [('a', 'o', None, 0)]


@pytest.mark.parametrize(('idle_advance', 'wanted'), [(None, []), (3, [('a', 'o', None, 5)])])
async def test_an_idle_partition_follows_the_clock_only_if_asked(idle_advance, wanted):
    join = Join(how='left', idle_advance=idle_advance)
    async with drive(join.app, start=1000.0) as t:
        await t.send(join.orders, 'o', key='a', timestamp=5)
        await t.settle()
        for _ in range(12):
            await t.clock.advance(1.0)
        await t.settle()
        assert join.take() == [], 'it is 5 + 12 - 3'
        for _ in range(3):
            await t.clock.advance(1.0)
        await t.settle()
        assert join.take() == wanted


@pytest.mark.parametrize('by', ['event', 'clock'])
async def test_after_a_long_silence_everybody_is_passed_on_in_order(by):
    join = Join(how='left', partitions=1)
    wanted = [(f'k{number}', number) for number in range(2 * AT_ONCE + 5)]
    async with drive(join.app) as t:
        for key, number in wanted:
            await t.send(join.orders, number, key=key, timestamp=number / 1000)
        await t.settle()
        assert join.got == []
        if by == 'event':
            await t.send(join.payments, 'p', key='p', timestamp=1000)
            await t.settle()
        else:
            await t.advance(30)
        assert [(key, number) for key, number, _, _ in join.got] == wanted


async def test_with_grace_a_value_that_comes_late_finds_its_partner():
    for grace, wanted in ((0, [('a', 'o', None, 3), ('a', None, 'p', 5)]), (50, [])):
        join = Join(how='outer', grace=grace, partitions=1)
        async with drive(join.app) as t:
            await t.send(join.orders, 'o', key='a', timestamp=3)
            await t.send(join.orders, 'x', key='b', timestamp=40)
            await t.settle()
            await t.send(join.payments, 'p', key='a', timestamp=5)
            await t.settle()
            assert join.take() == (wanted or [('a', 'o', 'p', 5)])


@pytest.mark.parametrize('guarantee', GUARANTEES)
async def test_what_comes_too_late_is_told_and_counted_once(guarantee):
    """Also when the first attempt to tell fails."""
    told, failures = [], iter([OSError('now and then')])

    async def tell(key, event):
        if (failure := next(failures, None)) is not None:
            raise failure
        told.append((key, event.value, event.topic))

    join = Join(guarantee, how='inner', partitions=1, on_late=tell)
    async with drive(join.app) as t:
        await t.send(join.orders, 'x', key='b', timestamp=40)
        await t.settle()
        await t.send(join.payments, 'p', key='a', timestamp=5)
        await t.send(join.payments, 'q', key='b', timestamp=35)
        await t.settle()
        assert told == [('a', 'p', 'payments')]
        assert join.take() == [('b', 'x', 'q', 40)]
        (table,) = join.app.tables.values()
        assert table.late == 1


async def test_what_comes_too_late_goes_to_a_topic_as_it_is():
    join = Join(how='inner', partitions=1)
    late = join.app.topic('late')
    side = join.payments.stream().join(join.orders.stream(), within=1, name='other', on_late=late)

    @join.app.agent(side)
    async def other(stream):
        async for _ in stream:
            pass

    async with drive(join.app) as t:
        await t.send(join.orders, 'x', key='b', timestamp=40)
        await t.settle()
        await t.send(join.payments, 'p', key='a', timestamp=5)
        await t.settle()
        (event,) = t.read(late)
        assert (event.key, event.value, event.timestamp) == ('a', 'p', 5)


async def test_at_the_last_moment_a_value_still_waits():
    join = Join(how='left', partitions=1)
    async with drive(join.app) as t:
        for key, at in (('b', 10), ('a', 0)):
            await t.send(join.orders, 'o', key=key, timestamp=at)
            await t.settle()
        await t.send(join.payments, 'p', key='a', timestamp=10)
        await t.settle()
        assert join.take() == [('a', 'o', 'p', 10)]


async def test_after_a_restart_time_goes_on_to_the_moment():
    join = Join(how='left', partitions=1)
    async with drive(join.app) as t:
        for at in (0, 3):
            await t.send(join.orders, 'o', key=f'k{at}', timestamp=at)
        await t.settle()
        await t.restart()
        for until, wanted in ((10, []), (10.001, ['k0']), (13, []), (13.001, ['k3'])):
            await t.advance(until - t.now)
            assert [key for key, *_ in join.take()] == wanted


async def test_a_pair_stays_in_the_partition_of_its_values():
    join = Join()
    async with drive(join.app) as t:
        for partition in range(4):
            await t.send(join.orders, 'o', key='a', partition=partition)
            await t.send(join.payments, 'p', key='a', partition=partition)
        await t.settle()
        assert [event.partition for event in t.read('shop-paid-pairs')] == [0, 1, 2, 3]


async def test_a_value_without_a_key_has_no_partner():
    join = Join(how='outer')
    async with drive(join.app) as t:
        await t.send(join.orders, 'o')
        await t.send(join.payments, 'p')
        await t.settle()
        assert join.take() == [(None, 'o', None, 0), (None, None, 'p', 0)]


async def test_a_tombstone_takes_no_part():
    join = Join(how='outer')
    async with drive(join.app) as t:
        await t.send(join.orders, None, key='a')
        await t.settle()
        await t.advance(30)
        assert join.take() == []


async def test_what_cannot_be_decoded_is_dead_lettered_at_its_own_topic():
    app = Topology(StreamSettings('shop'))
    orders = app.topic('orders', value_type=Order)
    payments = app.topic('payments', value_type=int)
    got = []

    @app.agent(orders.stream().join(payments, within=1))
    async def settle(stream):
        async for order, paid in stream:
            got.append((order, paid))

    async with drive(app) as t:
        await t.send(payments, 'much', key='a')
        await t.send(orders, Order('ann', 5), key='a')
        await t.send(payments, 5, key='a')
        await t.settle()
        assert got == [(Order('ann', 5), 5)]
        assert [event.value for event in t.read('payments.dlq')] == ['much']


# Order, restart


def brute_force(left, right, within, how):
    """Return what a join has to give, compared value by value."""
    pairs = [
        (key, a, b, max(at, bt))
        for key, a, at in left
        for other, b, bt in right
        if key == other and round(abs(at - bt) * 1000) <= within * 1000
    ]
    if how in ('left', 'outer'):
        met = {a for _, a, _, _ in pairs}
        pairs += [(key, a, None, at) for key, a, at in left if a not in met]
    if how == 'outer':
        met = {b for _, _, b, _ in pairs}
        pairs += [(key, None, b, bt) for key, b, bt in right if b not in met]
    return sorted(pairs, key=str)


def some(rng, name, count):
    times = sorted(rng.randrange(200) / 10 for _ in range(count))
    return [(rng.choice('abc'), f'{name}{number}', at) for number, at in enumerate(times)]


async def send_shuffled(t, rng, sides, pause=0.0):
    """Send both sides in any order between them, and in their own order each."""
    rest = [list(values) for _, values in sides]
    while any(rest):
        side = rng.choice([number for number, values in enumerate(rest) if values])
        key, value, at = rest[side].pop(0)
        await t.send(sides[side][0], value, key=key, timestamp=at)
        if rng.random() < pause:
            await t.settle()


@pytest.mark.parametrize('how', ['inner', 'left', 'outer'])
@pytest.mark.parametrize('seed', range(4))
async def test_what_lies_there_is_joined_by_time_whatever_came_first(how, seed):
    rng = random.Random(f'{how}{seed}')
    join = Join(how=how, within=1)
    left, right = some(rng, 'l', 40), some(rng, 'r', 40)
    async with drive(join.app) as t:
        await t.stop()
        await send_shuffled(t, rng, [(join.orders, left), (join.payments, right)])
        await t.start()
        await t.advance(30)
        assert join.take() == brute_force(left, right, 1, how)


@pytest.mark.parametrize('guarantee', GUARANTEES)
@pytest.mark.parametrize('how', ['inner', 'left', 'outer'])
async def test_grace_makes_up_for_what_comes_late_over_restarts(how, guarantee):
    rng = random.Random(how)
    join = Join(guarantee, how=how, within=1, grace=20)
    left, right = some(rng, 'l', 40), some(rng, 'r', 40)
    sides = [(join.orders, left), (join.payments, right)]
    async with drive(join.app) as t:
        for wipe in (False, True):
            half = [(topic, values[: len(values) // 2]) for topic, values in sides]
            await send_shuffled(t, rng, half if not wipe else sides, pause=0.1)
            await t.settle()
            await t.restart(wipe_state=wipe)
            sides = [(topic, values[len(values) // 2 :]) for topic, values in sides]
        await t.advance(60)
        assert join.take() == brute_force(left, right, 1, how)
        assert join.remembered(t) == [], 'nothing is remembered for ever'


@pytest.mark.parametrize('guarantee', GUARANTEES)
@pytest.mark.parametrize('seed', range(2))
async def test_lost_connections_in_the_middle_lose_nothing(guarantee, seed):
    rng = random.Random(f'{guarantee}{seed}')
    join = Join(guarantee, how='outer', within=1, grace=20)
    left, right = some(rng, 'l', 60), some(rng, 'r', 60)
    rest = [(join.orders, left), (join.payments, right)]
    async with drive(join.app) as t:
        for part in range(6):
            piece = [(topic, values[part * 10 : part * 10 + 10]) for topic, values in rest]
            await send_shuffled(t, rng, piece)
            for _ in range(rng.randrange(200)):
                await asyncio.sleep(0)
            t._broker.network.drop_connections()
        await t.settle()
        await t.advance(60)
        found = sorted({(e.key, *e.value, e.timestamp) for e in t.read('shop-paid-pairs')}, key=str)
        assert found == brute_force(left, right, 1, 'outer')
        if guarantee == 'exactly_once':
            assert len(t.read('shop-paid-pairs')) == len(found)
        assert join.remembered(t) == []


async def test_the_changelog_of_what_was_joined_ends_in_tombstones():
    join = Join()
    async with drive(join.app) as t:
        await t.send(join.orders, 'o', key='a', timestamp=0)
        await t.settle()
        assert len(join.remembered(t)) == 2
        await t.advance(11)
        assert join.remembered(t) == []


async def test_two_agents_of_one_join_share_it():
    join = Join()
    again = join.orders.stream().join(join.payments.stream(), within=10, name='paid')
    seen = []

    @join.app.agent(again)
    async def second(stream):
        async for pair in stream:
            seen.append(pair)

    async with drive(join.app) as t:
        await t.send(join.orders, 'o', key='a')
        await t.send(join.payments, 'p', key='a')
        await t.settle()
        assert len(t.read('shop-paid-pairs')) == 1
        assert seen == [('o', 'p')]
        assert len(join.got) == 1


async def test_one_name_for_two_joins_is_refused():
    join = Join()

    @join.app.agent(join.orders.stream().join(join.payments.stream(), within=11, name='paid'))
    async def second(stream):
        async for _ in stream:
            pass

    with pytest.raises(errors.ConfigError, match='shop-paid would be the name of two'):
        async with drive(join.app):
            pass


# Where the events come from


async def test_group_by_before_a_join_brings_the_keys_together():
    app = Topology(StreamSettings('shop'))
    orders = app.topic('orders', value_type=Order, partitions=3)
    users = app.topic('users', key_type=str, partitions=2)
    by_user = orders.stream().group_by(Order.user, partitions=2)
    got = []

    @app.agent(by_user.join(users.stream(), within=60, how='left'))
    async def greet(stream):
        async for order, user in stream:
            got.append((order.amount, user))

    async with drive(app) as t:
        for number in range(6):
            await t.send(users, f'U{number}', key=f'u{number}')
            await t.send(orders, Order(f'u{number}', number), key=f'o{number}')
        await t.settle()
        assert sorted(got) == [(number, f'U{number}') for number in range(6)]


@pytest.mark.parametrize('guarantee', GUARANTEES)
async def test_two_agents_of_one_grouped_stream_share_what_moves_it(guarantee):
    app = Topology(StreamSettings('shop', guarantee=guarantee))
    orders = app.topic('orders', value_type=Order, partitions=2)
    dear = orders.stream().filter(lambda order: order.amount > 1).group_by(Order.user)
    got = {'one': [], 'two': []}

    def reads(name, stream):
        async def body(stream):
            async for key, order in stream.items():
                got[name].append((key, order.amount))

        app.agent(stream, name=name)(body)

    reads('one', dear)
    reads('two', dear.filter(lambda order: order.amount > 2))
    async with drive(app) as t:
        for amount in (1, 2, 3):
            await t.send(orders, Order('ann', amount), key='k')
        await t.settle()
        assert got == {'one': [('ann', 2), ('ann', 3)], 'two': [('ann', 3)]}
        assert len(t.read('shop-orders-user-repartition')) == 2


async def test_unequal_counts_stop_the_start_with_both_and_the_fix():
    join = Join(counts=(3, 2))
    with pytest.raises(errors.CoPartitionError) as caught:
        async with drive(join.app):
            pass
    for part in ('orders (3 partitions)', 'payments (2 partitions)', 'group_by'):
        assert part in str(caught.value)


async def test_a_join_inside_the_body():
    app = Topology(StreamSettings('shop'))
    orders, payments = app.topic('orders'), app.topic('payments')
    got = []

    @app.agent(orders)
    async def settle(stream):
        async for pair in stream.join(payments.stream(), within=10):
            got.append(pair)

    async with drive(app) as t:
        await t.send(orders, 'o', key='a')
        await t.send(payments, 'p', key='a')
        await t.settle()
        assert got == [('o', 'p')]


async def test_sides_may_be_filtered_and_processed_before():
    app = Topology(StreamSettings('shop'))
    numbers = app.topic('numbers', value_type=int)
    odd = numbers.stream().filter(lambda n: n % 2)
    more = numbers.stream().add_processor(lambda n: n * 10)
    got = []

    @app.agent(odd.join(more, within=10))
    async def settle(stream):
        async for pair in stream:
            got.append(pair)

    async with drive(app) as t:
        for n in (1, 2, 3):
            await t.send(numbers, n, key='a')
        await t.settle()
        assert sorted(got) == [(1, 10), (1, 20), (1, 30), (3, 10), (3, 20), (3, 30)]


async def test_a_join_of_a_join():
    app = Topology(StreamSettings('shop'))
    a, b, c = (app.topic(name) for name in 'abc')
    both = a.stream().join(b.stream(), within=10)
    got = []

    @app.agent(both.join(c.stream(), within=10, how='left'))
    async def settle(stream):
        async for pair in stream:
            got.append(pair)

    async with drive(app) as t:
        for topic in (a, b, c):
            await t.send(topic, topic.name.upper(), key='k')
            await t.settle()
        assert got == [(('A', 'B'), 'C')]


@pytest.mark.parametrize('concurrency', [1, 4])
async def test_pairs_go_through_lanes_and_group_by_like_any_topic(concurrency):
    app = Topology(StreamSettings('shop'))
    orders, payments = app.topic('orders'), app.topic('payments')
    sums = app.Table('sums', default=int)

    @app.agent(orders.stream().join(payments.stream(), within=10), concurrency=concurrency)
    async def settle(stream):
        async for order, paid in stream.group_by(lambda pair: pair[0], name='kind'):
            sums[order] += paid

    async with drive(app) as t:
        for number in range(20):
            await t.send(orders, 'book' if number % 2 else 'pen', key=f'k{number}')
            await t.send(payments, number, key=f'k{number}')
        await t.settle()
        assert dict(sums.items()) == {'book': 100, 'pen': 90}


async def test_combined_streams_come_by_time():
    app = Topology(StreamSettings('shop'))
    a, b = app.topic('a', partitions=1), app.topic('b', partitions=1)
    got = []

    @app.agent(a.stream() & b.stream())
    async def both(stream):
        async for event in stream.events():
            got.append((event.topic, event.value))

    async with drive(app) as t:
        await t.stop()
        for at in (2, 4, 6):
            await t.send(b, at, key='k', timestamp=at)
        for at in (1, 3, 6):
            await t.send(a, at, key='k', timestamp=at)
        await t.start()
        assert got == [('a', 1), ('b', 2), ('a', 3), ('b', 4), ('a', 6), ('b', 6)]


@pytest.mark.parametrize(
    ('options', 'error'),
    [
        ({}, TypeError),
        ({'within': -1}, ValueError),
        ({'within': 1, 'grace': -1}, ValueError),
        ({'within': 1, 'how': 'right'}, ValueError),
        ({'within': 1, 'on_late': 7}, TypeError),
    ],
)
def test_a_wrong_declaration_is_refused_at_once(options, error):
    app = Topology(StreamSettings('shop'))
    with pytest.raises(error):
        app.topic('a').stream().join(app.topic('b').stream(), **options)


async def test_names_follow_the_application():
    join = Join()
    join.app.configure(StreamSettings('market'))
    async with drive(join.app) as t:
        await t.send(join.orders, 'o', key='a')
        await t.send(join.payments, 'p', key='a')
        await t.settle()
        assert [event.value for event in t.read('market-paid-pairs')] == [('o', 'p')]
        assert {table.changelog for table in join.app.tables.values()} == {
            'market-paid-join-changelog'
        }


@pytest.mark.parametrize('ms', [2**63 - 1, 2**62, -(2**63)])
async def test_an_impossible_time_is_dead_lettered_and_moves_no_time(ms):
    join = Join(partitions=1)
    async with drive(join.app) as t:
        await t.send(join.orders, 1, key='a', timestamp=7)
        await t._append(join.orders.record('a', 9)._replace(timestamp=ms))
        await t.settle()
        await t.send(join.payments, 2, key='a', timestamp=8)
        await t.settle()
        assert len(t.read('orders.dlq')) == 1
        assert join.take() == [('a', 1, 2, 8.0)]
