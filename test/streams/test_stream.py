"""Streams: what a body iterates over, each operator and some together, on the log in memory."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from service_scaffold import errors
from service_scaffold.streams.decision import Decision
from service_scaffold.streams.driver import drive
from service_scaffold.streams.effects import current_event
from service_scaffold.streams.records import Record
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology


class Order(Record):
    account: str
    amount: int = 0


@pytest.fixture(params=['at_least_once', 'exactly_once'])
def app(request: pytest.FixtureRequest) -> Topology:
    """An application with nothing declared."""
    return Topology(StreamSettings('shop', guarantee=request.param, drain_s=0.1))


@pytest.fixture
def plain() -> Topology:
    """An application with one partition per topic."""
    return Topology(StreamSettings('shop', topic_partitions=1, drain_s=0.1))


class TestFilter:
    async def test_what_is_filtered_out_of_a_batch_is_finished(self, plain):
        numbers = plain.topic('numbers', value_type=int)
        batches = []

        @plain.agent(numbers)
        async def work(stream):
            async for batch in stream.filter(lambda n: n % 2).take(3, within=5.0):
                batches.append(batch)

        async with drive(plain) as t:
            for n in range(10):
                await t.send(numbers, n)
            await t.settle()
            await t.advance(6)
            await t.restart()
            await t.advance(6)
        assert batches == [[1, 3, 5], [7, 9]]

    async def test_what_was_sent_before_something_was_filtered_out_of_a_batch_counts_with_it(
        self, plain
    ):
        """The copy of a value that is filtered out afterwards is not lost with a failed attempt."""
        numbers, copies = plain.topic('numbers', value_type=int), plain.topic('copies')
        failures = iter([OSError('now and then')])

        @plain.agent(numbers)
        async def work(stream):
            async for _ in stream.echo(copies).filter(lambda n: n % 2).take(3, within=5.0):
                if (failure := next(failures, None)) is not None:
                    raise failure

        async with drive(plain) as t:
            for n in range(6):
                await t.send(numbers, n)
            await t.settle()
            assert [event.value for event in t.read('copies')] == [0, 1, 2, 3, 4, 5]

    async def test_a_batch_does_not_wait_beyond_its_time_for_what_is_filtered_out(self, plain):
        numbers = plain.topic('numbers', value_type=int)
        batches = []

        async def slowly(n):
            await t.clock.advance(0.3)
            return n == 0

        @plain.agent(numbers)
        async def work(stream):
            async for batch in stream.filter(slowly).take(2, within=1.0):
                batches.append((batch, t.now))

        async with drive(plain) as t:
            for n in range(20):
                await t.send(numbers, n)
            await t.settle()
        assert batches[0][0] == [0]
        assert batches[0][1] < 2

    async def test_what_is_filtered_out_need_not_be_acknowledged(self, app):
        numbers = app.topic('numbers', value_type=int)
        seen = []

        @app.agent(numbers)
        async def work(stream):
            async for event in stream.noack().filter(lambda n: n % 2).events():
                seen.append(event.value)
                await event.ack()

        async with drive(app) as t:
            for n in range(8):
                await t.send(numbers, n, key='one')
            await t.settle()
            assert not any(track.pending for track in _tracks(t, 'work'))
        assert seen == [1, 3, 5, 7]

    async def test_by_hand_in_batches_too(self, app):
        numbers = app.topic('numbers', value_type=int)
        batches = []

        @app.agent(numbers)
        async def work(stream):
            events = stream.noack().filter(lambda n: n % 2)
            async for batch in events.take_events(2, within=1.0):
                batches.append([event.value for event in batch])
                for event in batch:
                    await events.ack(event)

        async with drive(app) as t:
            for n in range(8):
                await t.send(numbers, n, key='one')
            await t.settle()
            assert not any(track.pending for track in _tracks(t, 'work'))
        assert batches == [[1, 3], [5, 7]]


class TestNoack:
    async def test_nothing_counts_before_it_is_acknowledged(self, app):
        """What was written and sent for an event that comes again does not count before."""
        numbers, out = app.topic('numbers', value_type=int), app.topic('out')
        seen = app.Table('seen', default=int)
        may_ack = False

        @app.agent(numbers)
        async def work(stream):
            async for event in stream.noack().events():
                seen[event.key] += 1
                await out.send(value=event.value)
                if may_ack:
                    await event.ack()

        async with drive(app) as t:
            await t.send(numbers, 1, key='one')
            await t.send(numbers, 2, key='one')
            await t.settle()
            await t.restart()
            assert t.read(out) == []
            may_ack = True
            await t.restart()
            await t.settle()
            assert seen['one'] == 2
            assert [event.value for event in t.read(out)] == [1, 2]

    async def test_what_is_sent_after_the_last_acknowledgement_goes_out(self, app):
        numbers, out = app.topic('numbers', value_type=int), app.topic('out')

        @app.agent(numbers, sink=[out])
        async def work(stream):
            async for event in stream.noack().events():
                await event.ack()
                yield event.value

        async with drive(app) as t:
            await t.send(numbers, 1, key='one')
            await t.settle()
            assert [event.value for event in t.read(out)] == [1]

    async def test_what_is_sent_has_the_key_and_the_time_of_the_event(self, app):
        numbers, out, direct = app.topic('numbers', value_type=int), app.topic('out'), 'direct'

        @app.agent(numbers, sink=[out])
        async def work(stream):
            async for event in stream.noack().events():
                assert current_event() is event
                await app.topic(direct).send(value=event.value)
                yield event.value
                await event.ack()

        async with drive(app, start=100.0) as t:
            await t.send(numbers, 1, key='one', timestamp=7.5)
            await t.settle()
            (one,) = t.read(out)
            (other,) = t.read(direct)
            assert (one.key, one.timestamp, other.timestamp) == ('one', 7.5, 7.5)

    async def test_each_question_is_answered_whatever_else_is_not_acknowledged(self, plain):
        answers = []

        @plain.agent()
        async def double(stream):
            held = []
            async for event in stream.noack().events():
                held.append(event)
                yield event.value * 2
                if len(held) == 3:
                    for one in held:
                        await one.ack()

        async with drive(plain) as t:
            questions = [double.ask_nowait(n, timeout=5) for n in range(3)]
            await t.settle()
            answers = await asyncio.gather(*questions)
        assert answers == [0, 2, 4]

    async def test_an_event_that_fails_is_given_up_after_three_attempts(self, plain):
        """Also behind others that are filtered out, and whatever is sent before the first one."""
        numbers, out = plain.topic('numbers', value_type=int), plain.topic('out')
        tries = []

        @plain.agent(numbers)
        async def work(stream):
            stream = stream.noack()
            await out.send(value='begin')
            async for event in stream.echo(out).filter(lambda n: n != 1).events():
                tries.append(event.value)
                if event.value in (2, 3):
                    raise ValueError(event.value)
                await event.ack()

        async with drive(plain) as t:
            for n in range(5):
                await t.send(numbers, n)
            await t.settle()
            assert [event.value for event in t.read('numbers.dlq')] == [2, 3]
            assert not any(track.pending for track in _tracks(t, 'work'))
        assert tries == [0, 2, 2, 2, 3, 3, 3, 4]

    async def test_a_batch_by_hand_answers_one_by_one(self, plain):
        @plain.agent()
        async def double(stream):
            async for batch in stream.noack_take(3, within=1.0):
                for event in batch:
                    yield event.value * 2
                for event in batch:
                    await event.ack()

        async with drive(plain) as t:
            questions = [double.ask_nowait(n, timeout=5) for n in range(3)]
            await t.settle()
            assert await asyncio.gather(*questions) == [0, 2, 4]


class TestTake:
    async def test_the_time_may_be_a_timedelta(self, plain):
        numbers = plain.topic('numbers', value_type=int)
        batches = []

        @plain.agent(numbers)
        async def work(stream):
            async for batch in stream.take(10, within=timedelta(seconds=2)):
                batches.append(batch)

        async with drive(plain) as t:
            await t.send(numbers, 1)
            await t.advance(1.5)
            assert batches == []
            await t.advance(1)
        assert batches == [[1]]

    async def test_timestamps_go_into_mappings(self, plain):
        values = plain.topic('values')
        batches = []

        @plain.agent(values)
        async def work(stream):
            async for batch in stream.take_with_timestamp(3, 1.0, timestamp_field_name='at'):
                batches.append(batch)

        async with drive(plain) as t:
            await t.send(values, {'n': 1}, timestamp=5.0)
            await t.send(values, 7, timestamp=6.0)
            await t.send(values, None, timestamp=7.0)
            await t.settle()
            assert t.read('values.dlq') == []
        assert batches == [[{'n': 1, 'at': 5.0}, 7, None]]

    async def test_batches_of_a_grouped_stream(self, app):
        orders = app.topic('orders', value_type=Order)
        batches = []

        @app.agent(orders)
        async def work(stream):
            async for batch in stream.group_by(Order.account).take(3, within=1.0):
                batches.append([(order.account, order.amount) for order in batch])

        async with drive(app) as t:
            for n in range(6):
                await t.send(orders, Order('ann', n), key=str(n))
            await t.settle()
        assert sorted(pair for batch in batches for pair in batch) == [('ann', n) for n in range(6)]
        assert [len(batch) for batch in batches] == [3, 3]


class TestGroupBy:
    async def test_two_that_differ_in_what_they_let_pass_are_no_one(self, app):
        """The filter before one group_by does not silently become that of the other."""
        orders = app.topic('orders', value_type=Order)
        large = orders.stream().filter(lambda order: order.amount > 5).group_by(Order.account)
        small = orders.stream().filter(lambda order: order.amount < 5).group_by(Order.account)

        @app.agent(large)
        async def one(stream): ...

        @app.agent(small)
        async def two(stream): ...

        with pytest.raises(errors.ConfigError, match='name='):
            async with drive(app):
                pass

    async def test_two_that_are_the_same_share_what_moves_them(self, app):
        orders = app.topic('orders', value_type=Order)
        seen = []

        @app.agent(orders.stream().group_by(Order.account))
        async def one(stream):
            async for order in stream:
                seen.append(('one', order.amount))

        @app.agent(orders.stream().group_by(Order.account))
        async def two(stream):
            async for order in stream:
                seen.append(('two', order.amount))

        async with drive(app) as t:
            await t.send(orders, Order('ann', 1), key='x')
            await t.settle()
        assert sorted(seen) == [('one', 1), ('two', 1)]

    @pytest.mark.parametrize('processed', [False, True])
    async def test_a_key_of_none_is_no_key(self, app, processed):
        values = app.topic('values', key_type=str)
        seen = []

        @app.agent(values)
        async def work(stream):
            if processed:
                stream = stream.add_processor(lambda value: value)
            async for key, value in stream.group_by(lambda v: v.get('k'), name='k').items():
                seen.append((key, value['n']))

        async with drive(app) as t:
            await t.send(values, {'n': 1, 'k': 'a'}, key='old')
            await t.send(values, {'n': 2}, key='old')
            await t.settle()
        assert sorted(seen, key=lambda pair: pair[1]) == [('a', 1), (None, 2)]

    async def test_twice(self, app):
        values = app.topic('values')
        seen = []

        @app.agent(values)
        async def work(stream):
            first = stream.group_by(lambda v: v['a'], name='a')
            async for key, value in first.group_by(lambda v: v['b'], name='b').items():
                seen.append((key, value['n']))

        async with drive(app) as t:
            for n in range(5):
                await t.send(values, {'n': n, 'a': n % 2, 'b': f'b{n % 3}'}, key='x', timestamp=n)
            await t.settle()
        assert sorted(seen) == sorted((f'b{n % 3}', n) for n in range(5))

    async def test_an_async_function(self, app):
        values = app.topic('values')
        seen = []

        async def find(value):
            await asyncio.sleep(0)
            return value['k']

        @app.agent(values)
        async def work(stream):
            async for key, _ in stream.group_by(find, name='k').items():
                seen.append(key)

        async with drive(app) as t:
            await t.send(values, {'k': 'a'}, key='x')
            await t.settle()
        assert seen == ['a']

    async def test_a_function_needs_a_name(self, app):
        values = app.topic('values')
        with pytest.raises(ValueError, match='name='):
            values.stream().group_by(lambda value: value['k'])

    @pytest.mark.parametrize('value_type', [None, int, dict])
    async def test_a_field_of_what_the_topic_does_not_have_is_refused(self, app, value_type):
        """Else every event would end in the dead letters."""
        orders = app.topic('orders', value_type=value_type)
        with pytest.raises(TypeError, match='value_type=Order'):
            orders.stream().group_by(Order.account)
        app.topic('pickled', value_serializer='pickle').stream().group_by(Order.account)
        made = orders.stream().add_processor(lambda value: Order(**value))
        made.group_by(Order.account)

    async def test_an_optional_field_is_keyed_like_any_other(self, app):
        class Sale(Record):
            account: str | None
            n: int = 0

        sales, names = app.topic('sales', value_type=Sale), app.topic('names', key_type=str)
        pairs = []

        @app.agent(sales.stream().group_by(Sale.account).join(names.stream(), within=1))
        async def work(stream):
            async for key, (sale, name) in stream.items():
                pairs.append((key, sale.n, name))

        async with drive(app) as t:
            await t.send(sales, Sale('null', 1), key='x', timestamp=1)
            await t.send(names, 'Ann', key='null', timestamp=1)
            await t.settle()
        assert pairs == [('null', 1, 'Ann')]

    async def test_the_pairs_of_a_table_join_can_be_grouped(self, app):
        """What was joined comes out as what it was: its types are known."""
        orders = app.topic('orders', value_type=Order)
        owners = app.topic('owners', value_type=str)
        names = app.Table('names', value_type=str)
        seen = []

        @app.agent(owners)
        async def keep(stream):
            async for key, name in stream.items():
                names[key] = name

        @app.agent(orders)
        async def work(stream):
            pairs = stream.join(names, how='left')
            async for key, pair in pairs.group_by(lambda p: p[1], name='owner').items():
                seen.append((key, pair))

        async with drive(app) as t:
            await t.send(owners, 'Ann', key='a')
            await t.settle()
            await t.send(orders, Order('x', 1), key='a')
            await t.send(orders, Order('y', 2), key='b')
            await t.settle()
            assert t.read('orders.dlq') == []
        assert sorted(seen, key=lambda one: one[1][0].amount) == [
            ('Ann', (Order('x', 1), 'Ann')),
            (None, (Order('y', 2), None)),
        ]

    async def test_the_type_of_what_was_processed_is_what_the_function_says(self, app):
        orders = app.topic('orders', value_type=Order)
        seen = []

        def amount(order: Order) -> int:
            return order.amount

        @app.agent(orders)
        async def work(stream):
            async for key, n in stream.add_processor(amount).group_by(str, name='n').items():
                seen.append((key, n))

        async with drive(app) as t:
            await t.send(orders, Order('x', 1), key='a')
            await t.settle()
            assert t.read('orders.dlq') == []
        assert seen == [('1', 1)]

    async def test_errors_on_the_way_are_judged_by_the_agents_own_hook(self, app):
        values = app.topic('values')
        judged = []

        def judge(agent, error):
            judged.append(type(error))
            return Decision.SKIP

        @app.agent(values, on_error=judge)
        async def work(stream):
            async for _ in stream.group_by(lambda v: v['k'], name='k'):
                pass

        async with drive(app) as t:
            await t.send(values, {}, key='x')
            await t.settle()
            assert t.read('values.dlq') == []
        assert judged == [KeyError]

    async def test_of_combined_topics_is_refused_and_not_half_done(self, app):
        one, two = app.topic('one'), app.topic('two')

        @app.agent(one.stream() & two.stream())
        async def work(stream):
            async for _ in stream.group_by(lambda v: v['k'], name='k'):
                pass

        with pytest.raises(errors.StreamError, match='combined'):
            async with drive(app):
                pass


class TestThrough:
    async def test_events_keep_their_key_time_and_headers(self, app):
        values, between = app.topic('values'), app.topic('between', partitions=2)
        seen = []

        @app.agent(values)
        async def work(stream):
            async for event in stream.through(between).events():
                seen.append((event.key, event.value, event.timestamp, dict(event.headers)))

        async with drive(app) as t:
            await t._append(values.record('a', 1, None, 1.001, {'h': 'x'}))
            await t.settle()
            assert [event.value for event in t.read(between)] == [1]
        assert seen == [('a', 1, 1.001, {'h': b'x'})]


class TestEcho:
    async def test_to_several(self, app):
        values, left, right = app.topic('values'), app.topic('left'), app.topic('right')

        @app.agent(values)
        async def work(stream):
            async for _ in stream.echo(left, right):
                pass

        async with drive(app) as t:
            await t.send(values, 1, key='a', timestamp=3)
            await t.settle()
            for topic in (left, right):
                (event,) = t.read(topic)
                assert (event.key, event.value, event.timestamp) == ('a', 1, 3.0)

    async def test_to_nothing_that_takes_values_is_refused_at_once(self, app):
        with pytest.raises(TypeError, match='echo'):
            app.topic('values').stream().echo(7)


class TestTimestamps:
    @pytest.mark.parametrize('at', [1.001, 0.29, 1700000000.123, 1234567890.019])
    async def test_a_millisecond_is_not_lost_on_the_way(self, app, at):
        values, out, box = app.topic('values'), app.topic('out'), app.channel()

        @app.agent(values)
        async def work(stream):
            async for event in stream.events():
                await out.send(value=event.value, timestamp=event.timestamp)
                await box.send(value=event.value, timestamp=event.timestamp)

        async with drive(app) as t:
            await t.send(values, 1, timestamp=at)
            await t.settle()
            (sent,) = t.read(out)
            assert sent.timestamp == at
            event = await box._take()
            assert event.timestamp == at


class TestEnumerate:
    async def test_numbers_count_what_passes(self, plain):
        values = plain.topic('values', value_type=int)
        seen = []

        @plain.agent(values)
        async def work(stream):
            async for pair in stream.filter(lambda n: n % 2).enumerate(10):
                seen.append(pair)

        async with drive(plain) as t:
            for n in range(4):
                await t.send(values, n)
            await t.settle()
        assert seen == [(10, 1), (11, 3)]


class TestTogether:
    async def test_two_agents_of_one_topic_see_everything(self, app):
        values = app.topic('values', value_type=int)
        seen = []

        @app.agent(values)
        async def one(stream):
            async for batch in stream.take(2, within=1):
                seen.extend(('one', n) for n in batch)

        @app.agent(values)
        async def two(stream):
            async for n in stream.filter(lambda n: n > 1):
                seen.append(('two', n))

        async with drive(app) as t:
            for n in range(4):
                await t.send(values, n, key='k')
            await t.settle()
        assert sorted(seen) == [
            ('one', 0),
            ('one', 1),
            ('one', 2),
            ('one', 3),
            ('two', 2),
            ('two', 3),
        ]

    async def test_an_agent_sends_to_its_own_topic(self, app):
        values = app.topic('values', value_type=int)
        seen = []

        @app.agent(values)
        async def countdown(stream):
            async for n in stream:
                seen.append(n)
                if n:
                    await countdown.send(key='k', value=n - 1)

        async with drive(app) as t:
            await t.send(values, 3, key='k')
            await t.settle()
        assert seen == [3, 2, 1, 0]

    async def test_a_channel_to_an_agent_to_a_channel(self, app):
        first, second = app.channel(), app.channel()
        out = app.topic('out')

        @app.agent(first, sink=[second])
        async def one(stream):
            async for n in stream:
                yield n + 1

        @app.agent(second, sink=[out])
        async def two(stream):
            async for n in stream.filter(lambda n: n != 3):
                yield n * 10

        async with drive(app) as t:
            for n in range(4):
                await t.send(first, n, key='k', timestamp=n)
            await t.settle()
            found = [(event.key, event.value, event.timestamp) for event in t.read(out)]
        assert found == [('k', 10, 0.0), ('k', 20, 1.0), ('k', 40, 3.0)]


def _tracks(t, agent):
    return [
        track
        for task in t.worker.session.tasks.values()
        for node in task.nodes
        if node.name == agent
        for track in node.tracks.values()
    ]
