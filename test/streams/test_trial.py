"""One agent by itself."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold import errors
from service_scaffold.streams.decision import Decision
from service_scaffold.streams.records import Record
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology


class Order(Record):
    who: str
    amount: int = 1


@pytest.fixture
def app():
    return Topology(StreamSettings('shop'))


async def test_what_it_yields_and_what_goes_to_its_sinks(app):
    out, called = app.topic('out'), []

    @app.agent(app.topic('orders', value_type=Order), sink=[out, called.append])
    async def double(stream):
        async for order in stream:
            yield order.amount * 2

    async with double.test_context() as a:
        event = await a.put({'who': 'ann', 'amount': 2}, key='k')
        assert event.value == Order('ann', 2)
        assert a.results[event.message.offset] == 4
        await a.put(Order('bob', 3))
        assert a.results == called == [4, 6]
        assert [(e.topic, e.key, e.value) for e in a.sent] == [('out', 'k', 4), ('out', None, 6)]
        with pytest.raises(errors.InvalidBody):
            await a.put({'who': 5})
    assert double.sinks == [out, called.append]


async def test_a_failure_is_raised_after_the_last_attempt_and_counts_for_nothing(app):
    tries = []

    @app.agent()
    async def work(stream):
        async for n in stream:
            tries.append(n)
            yield n
            if n < 0:
                raise ValueError('negative')

    async with work.test_context() as a:
        await a.put(1)
        with pytest.raises(ValueError, match='negative'):
            await a.put(-1)
        await a.put(2)
        assert tries == [1, -1, -1, -1, 2]
        assert a.results == [1, 2]
        assert [e.topic for e in a.sent] == ['shop-work.dlq']


async def test_an_agent_that_stops_the_application(app):
    @app.agent(on_error=lambda agent, exc: Decision.STOP)
    async def work(stream):
        async for _ in stream:
            raise ValueError('enough')

    async with work.test_context() as a:
        with pytest.raises(ValueError, match='enough'):
            await a.put(1)


async def test_its_tables_can_be_used(app):
    counts = app.Table('counts', default=int)

    @app.agent()
    async def count(stream):
        async for order in stream.group_by(lambda o: o['who'], name='who'):
            counts[order['who']] += 1
            yield counts[order['who']]

    for _ in range(2):  # nothing is left of the first time
        async with count.test_context() as a:
            await a.put({'who': 'ann'}, key='x')
            event = await a.put({'who': 'ann'}, key='y')
            assert event.key == 'ann'
            assert a.results == [1, 2]
            assert counts['ann'] == 2
            assert dict(counts.items()) == {'ann': 2}
        assert dict(counts.items()) == {}


async def test_batches_and_time(app):
    @app.agent()
    async def work(stream):
        async for batch in stream.take(3, within=10):
            yield sum(batch)

    async with work.test_context() as a:
        for n in range(4):
            await a.put(n)
        assert a.results == [3]
        await a.advance(10)
        assert a.results == [3, 3]


async def test_an_agent_of_a_channel(app):
    channel = app.channel()

    @app.agent(channel)
    async def work(stream):
        async for value in stream:
            await asyncio.sleep(0)
            yield value

    thing = object()
    async with work.test_context() as a:
        await a.put(thing)
        assert a.results == [thing]
    assert channel.empty()
