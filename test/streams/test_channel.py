"""Channels: values that stay in the process."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold import errors
from service_scaffold.streams.decision import Decision
from service_scaffold.streams.driver import drive
from service_scaffold.streams.records import Record
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology


class Order(Record):
    who: str
    amount: int = 1


@pytest.fixture
def app():
    return Topology(StreamSettings('shop'))


class TestAsAQueue:
    async def test_values_come_out_in_order_as_the_objects_that_they_are(self, app):
        channel = app.channel()
        thing = object()
        assert channel.empty()
        await channel.put(thing)
        await channel.send(value=2, key='k')
        assert not channel.empty()
        assert await channel.get() is thing
        assert await channel.get(timeout=1) == 2
        assert channel.empty()

    async def test_get_waits_no_longer_than_it_is_told(self, app):
        channel = app.channel(name='desk')
        with pytest.raises(TimeoutError, match=r'Channel desk: nothing has come within 0.01 s'):
            await channel.get(timeout=0.01)
        waiting = asyncio.ensure_future(channel.get(timeout=5))
        await asyncio.sleep(0)
        await channel.put(1)
        assert await waiting == 1

    async def test_put_waits_while_it_is_full(self, app):
        channel = app.channel(maxsize=2)
        await channel.put(1)
        await channel.put(2)
        putting = asyncio.ensure_future(channel.put(3))
        await asyncio.sleep(0)
        assert not putting.done()
        assert await channel.get() == 1
        await putting
        assert [await channel.get(), await channel.get()] == [2, 3]

    async def test_values_are_of_the_declared_type(self, app):
        channel = app.channel(key_type=str, value_type=Order)
        with pytest.raises(errors.InvalidBody, match='amount'):
            await channel.put({'who': 'ann', 'amount': 'many'})
        await channel.put({'who': 'ann', 'amount': 3})
        assert await channel.get() == Order('ann', 3)
        with pytest.raises(errors.InvalidBody):
            await channel.put(Order('ann'), key=5)

    def test_an_impossible_size_is_refused(self, app):
        with pytest.raises(ValueError, match='maxsize must be at least 1'):
            app.channel(maxsize=0)


class TestAsAStream:
    async def test_it_is_iterated_over_outside_of_agents(self, app):
        channel = app.channel()
        for n in range(4):
            await channel.put(n, key=str(n))
        stream = channel.stream()
        assert await anext(stream) == 0
        assert await anext(stream.items()) == ('1', 1)
        assert await anext(stream.enumerate(7)) == (7, 2)
        assert (await anext(stream.events())).value == 3

    async def test_a_batch_is_as_large_as_it_gets_in_time(self, app):
        channel = app.channel()
        await channel.put(1)
        await channel.put(2)
        async for batch in channel.stream().take(3, within=0.02):
            assert batch == [1, 2]
            break

    async def test_an_iterable_is_a_stream_with_an_end(self, app):
        assert [n async for n in app.stream([1, 2, 3])] == [1, 2, 3]
        assert [b async for b in app.stream(range(5)).take(2)] == [[0, 1], [2, 3], [4]]
        assert [p async for p in app.stream(['ab']).enumerate()] == [(0, 'ab')]
        odd = app.stream(range(6)).filter(lambda n: n % 2).add_processor(lambda n: n * 10)
        assert [n async for n in odd] == [10, 30, 50]

    async def test_an_asynchronous_iterable_may_be_slow(self, app):
        more = asyncio.Event()

        async def numbers():
            yield 1
            await more.wait()
            yield 2

        got = []
        async for batch in app.stream(numbers()).take(2, within=0.01):
            got.append(batch)
            more.set()
        assert got == [[1], [2]]

    async def test_it_cannot_be_grouped_outside_of_agents(self, app):
        with pytest.raises(errors.StreamError, match='outside of agents'):
            app.channel().stream().group_by(lambda v: v, name='v')
        with pytest.raises(TypeError, match='an iterable is needed'):
            app.stream(5)


class TestAsTheInputOfAnAgent:
    async def test_each_agent_sees_every_value_once(self, app):
        channel = app.channel()
        seen = []

        @app.agent(channel)
        async def one(stream):
            async for n in stream:
                seen.append(('one', n))

        @app.agent(channel.stream(), concurrency=4)
        async def two(stream):
            async for n in stream:
                seen.append(('two', n))

        await channel.put(0)  # before the start
        async with drive(app) as t:
            await t.send(channel, 1)
            for n in range(2, 200):
                await channel.put(n, key=str(n))
            await t.settle()
        assert sorted(seen) == sorted((who, n) for who in ('one', 'two') for n in range(200))
        assert [n for who, n in seen if who == 'one'] == list(range(200))

    async def test_what_it_sends_goes_to_topics(self, app):
        channel, out = app.channel(value_type=Order), app.topic('out')

        @app.agent(channel, sink=[out])
        async def work(stream):
            async for order in stream:
                yield order.amount + 1

        async with drive(app) as t:
            for n in range(1000):
                await channel.put(Order('ann', n), key='ann')
            await t.settle()
            assert [e.value for e in t.read(out)] == list(range(1, 1001))
            assert t.read(out)[0].key == 'ann'

    async def test_a_failed_attempt_counts_for_nothing_and_the_last_one_is_a_dead_letter(self, app):
        channel, out = app.channel(name='desk', value_type=Order), app.topic('out')
        tries = []

        @app.agent(channel)
        async def work(stream):
            async for order in stream:
                tries.append(order.who)
                await out.send(value=order.who)
                if order.who == 'bob':
                    raise ValueError('bob')

        async with drive(app) as t:
            for who in ('ann', 'bob', 'cat'):
                await channel.put(Order(who))
            await t.settle()
            assert tries == ['ann', 'bob', 'bob', 'bob', 'cat']
            assert [e.value for e in t.read(out)] == ['ann', 'cat']
            (letter,) = t.read('desk.dlq')
            assert letter.value == {'who': 'bob', 'amount': 1}
            assert letter.headers['x-death-reason'] == b'retries_exhausted'

    async def test_a_table_cannot_be_written(self, app):
        channel = app.channel()
        counts = app.Table('counts', default=int)
        found = []

        @app.agent(channel, on_error=lambda agent, exc: found.append(exc) or Decision.SKIP)
        async def work(stream):
            async for _ in stream:
                counts['x'] += 1

        async with drive(app) as t:
            await channel.put(1)
            await t.settle()
        assert isinstance(found[0], errors.OutsideAgent)
        assert 'Agent work reads a channel' in str(found[0])

    async def test_nobody_else_reads_it_then(self, app):
        channel = app.channel()

        @app.agent(channel)
        async def work(stream):
            async for _ in stream:
                pass

        async with drive(app):
            with pytest.raises(errors.StreamError, match='is read by its agents: work'):
                await channel.get(timeout=1)

    async def test_putting_waits_for_the_agent(self, app):
        channel = app.channel(maxsize=3)
        go = asyncio.Event()

        @app.agent(channel)
        async def work(stream):
            async for _ in stream:
                await go.wait()

        async with drive(app) as t:
            putting = asyncio.ensure_future(app_puts(channel, 10))
            done, _ = await asyncio.wait({putting}, timeout=0.1)
            assert not done
            go.set()
            await putting
            await t.settle()
            assert work.stats.processed == 10

    async def test_a_batch_may_be_larger_than_the_channel(self, app):
        channel = app.channel(maxsize=3)
        got = []

        @app.agent(channel)
        async def work(stream):
            async for batch in stream.take(10, within=60):
                got.append(batch)

        async with drive(app) as t:
            await app_puts(channel, 12)
            await t.advance(61)
        assert got == [list(range(10)), [10, 11]]

    async def test_what_is_not_finished_is_there_after_a_restart(self, app):
        channel = app.channel()
        got = []

        @app.agent(channel)
        async def work(stream):
            async for batch in stream.take(3):
                got.append(batch)

        async with drive(app) as t:
            await app_puts(channel, 4)
            await t.restart()
            await channel.put(4)
            await channel.put(5)
            await t.settle()
        assert got == [[0, 1, 2], [3, 4, 5]]

    async def test_it_can_be_grouped_into_a_topic(self, app):
        channel = app.channel(value_type=Order)
        counts = app.Table('counts', default=int)

        @app.agent(channel)
        async def count(stream):
            async for order in stream.group_by(Order.who):
                counts[order.who] += order.amount

        async with drive(app) as t:
            for n in range(10):
                await channel.put(Order(f'a{n % 2}', 2), key=n)
            await t.settle()
            assert dict(counts.items()) == {'a0': 10, 'a1': 10}

    @pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
    async def test_it_can_be_asked(self, guarantee):
        app = Topology(StreamSettings('shop', guarantee=guarantee))

        @app.agent(app.channel())
        async def double(stream):
            async for n in stream:
                if n == 'bad':
                    raise ValueError('bad')
                yield n * 2

        async with drive(app) as t:
            assert await t.ask(double, 4) == 8
            assert await double.join(range(100)) == [n * 2 for n in range(100)]
            with pytest.raises(errors.RemoteError, match='ValueError: bad'):
                await t.ask(double, 'bad')
            assert not [name for name in t._broker.topics if 'replies' in name]


class TestAsASink:
    @pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
    async def test_what_a_failed_attempt_has_yielded_does_not_come(self, guarantee):
        app = Topology(StreamSettings('shop', guarantee=guarantee))
        orders, channel = app.topic('orders', partitions=1), app.channel()
        tries = []

        @app.agent(orders, sink=[channel])
        async def work(stream):
            async for n in stream:
                tries.append(n)
                yield n
                if n == 1 and tries.count(1) == 1:
                    raise ValueError('once more')

        async with drive(app) as t:
            for n in range(3):
                await t.send(orders, n)
            await t.settle()
            assert [await channel.get(timeout=1) for _ in range(3)] == [0, 1, 2]
            assert channel.empty()
            assert tries == [0, 1, 1, 2]

    async def test_events_are_forwarded_both_ways(self, app):
        channel, inner, out = app.channel(), app.topic('in'), app.topic('out')

        @app.agent(inner)
        async def enter(stream):
            async for event in stream.events():
                await event.forward(channel)

        @app.agent(channel)
        async def leave(stream):
            async for event in stream.events():
                await event.forward(out)

        async with drive(app) as t:
            await t.send(inner, {'a': 1}, key='k', timestamp=5.0)
            await t.settle()
            (event,) = t.read(out)
            assert (event.key, event.value, event.timestamp) == ('k', {'a': 1}, 5.0)


async def app_puts(channel, count):
    for n in range(count):
        await channel.put(n)
