"""Asking agents, on the log in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from service_scaffold import errors
from service_scaffold.streams.decision import Decision
from service_scaffold.streams.driver import drive
from service_scaffold.streams.records import Record
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.testing.conformance.inbox import eventually


@pytest.fixture(params=['at_most_once', 'at_least_once', 'exactly_once'])
def app(request):
    return Topology(StreamSettings('shop', guarantee=request.param))


@pytest.fixture
def plain():
    return Topology(StreamSettings('shop'))


@pytest.fixture
def double(app):
    @app.agent()
    async def double(stream):
        async for n in stream:
            yield n * 2

    return double


def slow_rests(t):
    return all(task.resting for task in t._worker.session.tasks.values())


def reply_topics(t):
    return [name for name in t._broker.topics if 'replies' in name]


async def test_an_agent_answers_with_what_it_yields(app, double):
    async with drive(app):
        assert await double.ask(4) == 8
        assert await double.ask(5, 'key') == 10


async def test_the_driver_asks_without_letting_time_pass(app, double):
    async with drive(app, start=100.0) as t:
        assert await t.ask(double, 4, key='k') == 8
        assert t.now == 100.0


async def test_a_thousand_answers_come_in_the_order_of_the_questions(app, double):
    async with drive(app):
        assert await double.join(range(1000)) == [n * 2 for n in range(1000)]
        assert len(app.calls) == 0


async def test_join_takes_an_asynchronous_iterable_and_is_empty_for_none(app, double):
    async def numbers():
        for n in range(3):
            yield n

    async with drive(app):
        assert await double.join(numbers()) == [0, 2, 4]
        assert await double.join([]) == []
        assert await double.kvjoin([('a', 1), ('b', 2)]) == [2, 4]


async def test_map_gives_answers_as_they_come(plain):
    held = asyncio.Event()

    @plain.agent(concurrency=2)
    async def work(stream):
        async for n in stream:
            if n == 0:
                await held.wait()
            yield n

    async with drive(plain):
        got = []
        async for n in work.kvmap([('a', 0), ('b', 1), ('c', 2), ('d', 3), ('e', 4)]):
            got.append(n)
            held.set()
        assert sorted(got) == [0, 1, 2, 3, 4]
        assert got[0] != 0
        assert sorted([n async for n in work.map([5, 6, 7])]) == [5, 6, 7]


async def test_map_reads_on_while_answers_come(plain):
    @plain.agent()
    async def work(stream):
        async for n in stream:
            yield n

    asked: asyncio.Queue[int] = asyncio.Queue()

    async def numbers():
        while (n := await asked.get()) is not None:
            yield n

    async with drive(plain):
        answers = work.map(numbers())
        for n in range(3):  # each is answered before the next one is asked
            asked.put_nowait(n)
            assert await anext(answers) == n
        await answers.aclose()
        assert len(plain.calls) == 0


async def test_join_fails_with_the_first_failure_and_waits_for_no_other(plain):
    held = asyncio.Event()

    @plain.agent(concurrency=8, on_error=lambda agent, exc: Decision.SKIP)
    async def work(stream):
        async for n in stream:
            if n == 0:
                raise ValueError('zero')
            await held.wait()
            yield n

    async with drive(plain):
        with pytest.raises(errors.RemoteError, match='ValueError: zero'):
            await work.kvjoin([(str(n), n) for n in range(20)])
        assert len(plain.calls) == 0
        held.set()


async def test_a_source_of_questions_that_fails_fails_the_join(plain):
    @plain.agent()
    async def work(stream):
        async for n in stream:
            yield n

    async def numbers():
        yield 1
        raise LookupError('no more')

    async with drive(plain):
        with pytest.raises(LookupError, match='no more'):
            await work.join(numbers())


@pytest.mark.parametrize('decision', [Decision.SKIP, Decision.DEAD_LETTER, None])
async def test_whoever_asks_is_told_of_the_failure(app, decision):
    @app.agent(on_error=lambda agent, exc: decision)
    async def broken(stream):
        async for value in stream:
            raise ValueError(f'not {value}')
            yield

    async with drive(app) as t:
        with pytest.raises(errors.RemoteError, match='ValueError: not 5') as caught:
            await t.ask(broken, 5)
        assert (caught.value.type, caught.value.message) == ('ValueError', 'not 5')
        assert t.now < 10


async def test_whoever_asks_with_what_cannot_be_decoded_is_told(app):
    numbers = app.topic('numbers', value_type=int, partitions=1)

    @app.agent(numbers)
    async def double(stream):
        async for n in stream:
            yield n * 2

    async with drive(app) as t:
        with pytest.raises(errors.RemoteError, match='InvalidBody'):
            await t.ask(double, 'five')


async def test_only_the_last_attempt_answers(app):
    tries = []

    @app.agent()
    async def work(stream):
        async for n in stream:
            tries.append(n)
            yield len(tries)
            if len(tries) < 3:
                raise ValueError('again')

    async with drive(app) as t:
        assert await t.ask(work, 1) == 3


async def test_a_question_expires_by_the_clock_and_names_the_agent(app):
    @app.agent()
    async def silent(stream):
        async for _ in stream:
            if False:
                yield

    async with drive(app, start=0.0) as t:
        with pytest.raises(TimeoutError, match='Agent silent has not answered within 120 s'):
            await t.ask(silent, 1)
        assert t.now == pytest.approx(120, abs=1)
        with pytest.raises(TimeoutError, match='within 2 s'):
            await t.ask(silent, 1, timeout=2.0)
        assert t.now == pytest.approx(122, abs=1)
        assert len(app.calls) == 0


async def test_the_first_value_answers(app):
    @app.agent()
    async def work(stream):
        async for n in stream:
            yield n
            yield n + 1

    async with drive(app) as t:
        assert await t.ask(work, 1) == 1
        assert app.calls.late == 0


async def test_the_values_of_a_batch_answer_its_events_one_by_one(plain):
    @plain.agent()
    async def work(stream):
        async for batch in stream.take(3):
            for n in batch:
                yield n * 10

    async with drive(plain) as t:
        first = work.ask_nowait(1, 'k')
        await t.settle()
        await work.cast(2, 'k')
        third = work.ask_nowait(3, 'k')
        await t.settle()
        assert (await first, await third) == (10, 30)


async def test_events_that_are_acknowledged_by_hand_are_answered(plain):
    @plain.agent()
    async def work(stream):
        stream = stream.noack()
        async for event in stream.events():
            yield event.value + 1
            await event.ack()

    async with drive(plain) as t:
        assert await t.ask(work, 1) == 2
        assert await t.ask(work, 2) == 3


async def test_an_agent_asks_another_while_it_handles_an_event(app, double):
    numbers = app.topic('numbers')
    out = app.topic('out')

    @app.agent(numbers, sink=[out])
    async def plus(stream):
        async for n in stream:
            yield await double.ask(n) + 1

    async with drive(app) as t:
        for n in range(5):
            await t.send(numbers, n, key=str(n))
        await t.settle()
        assert sorted(e.value for e in t.read(out)) == [1, 3, 5, 7, 9]
        assert await t.ask(plus, 10) == 21


async def test_time_can_pass_while_an_agent_waits_for_an_answer(app):
    found = []

    @app.agent()
    async def silent(stream):
        async for _ in stream:
            if False:
                yield

    @app.agent()
    async def hopeful(stream):
        async for n in stream:
            try:
                await silent.ask(n, timeout=30)
            except TimeoutError as error:
                found.append(str(error))

    async with drive(app) as t:
        await hopeful.cast(1)
        await t.settle()
        assert found == []
        await t.advance(29)
        assert found == []
        await t.advance(2)
        assert found == ['Agent silent has not answered within 30 s']


async def test_a_question_handed_on_is_answered_by_the_other(app, double):
    @app.agent()
    async def front(stream):
        async for event in stream.events():
            await event.forward(double.topic)

    async with drive(app) as t:
        assert await t.ask(front, 4) == 8


async def test_a_question_finds_its_way_through_group_by(app):
    counts = app.Table('counts', default=int)

    @app.agent()
    async def count(stream):
        async for value in stream.group_by(lambda v: v['who'], name='who'):
            counts[value['who']] += 1
            yield counts[value['who']]

    async with drive(app) as t:
        assert await t.ask(count, {'who': 'ann'}) == 1
        assert await t.ask(count, {'who': 'ann'}) == 2


async def test_an_answer_is_decoded_into_what_the_body_is_annotated_to_yield(app):
    @app.agent(value_type=float)
    async def quote(stream) -> AsyncIterator[Price]:
        async for amount in stream:
            yield Price(amount, 'EUR')

    @app.agent()
    async def nothing(stream):
        async for _ in stream:
            yield None

    async with drive(app) as t:
        assert await t.ask(quote, 1.5) == Price(1.5, 'EUR')
        assert await t.ask(nothing, 1.5) is None


class Price(Record):
    amount: float
    currency: str


async def test_answers_go_to_sinks_as_well(app):
    out = app.topic('out')

    @app.agent(sink=[out])
    async def double(stream):
        async for n in stream:
            yield n * 2

    async with drive(app) as t:
        assert await t.ask(double, 4) == 8
        assert [e.value for e in t.read(out)] == [8]


async def test_answers_may_go_to_a_topic_of_somebody_elses(app, double):
    desk = app.topic('desk', partitions=1)
    async with drive(app) as t:
        await double.send(value=4, reply_to=desk, correlation_id='c1')
        await t.settle()
        (answer,) = t.read(desk)
        assert answer.value == 8
        assert answer.headers['x-correlation-id'] == b'c1'


async def test_the_topic_of_answers_comes_with_the_first_question_and_goes_at_the_end(app, double):
    async with drive(app) as t:
        assert reply_topics(t) == []
        await t.ask(double, 1)
        assert reply_topics(t) == [app.calls.reply_to]
        assert app.calls.reply_to.startswith('shop-replies-')
        before = app.calls.reply_to
        await t.restart()
        assert reply_topics(t) == []
        assert await t.ask(double, 2) == 4
        assert reply_topics(t) == [app.calls.reply_to] != [before]


async def test_an_answer_to_somebody_who_has_gone_is_dropped(app):
    held = asyncio.Event()

    @app.agent()
    async def slow(stream):
        async for n in stream:
            await held.wait()
            yield n

    async with drive(app) as t:
        await slow.send(value=1, reply_to='gone-replies', correlation_id='c1')
        held.set()
        await t.settle()
        assert 'gone-replies' not in t._broker.topics
        assert await t.ask(slow, 2) == 2  # and nothing is stuck behind it


async def test_an_answer_that_comes_too_late_harms_nobody(app):
    held = asyncio.Event()

    @app.agent()
    async def slow(stream):
        async for n in stream:
            await held.wait()
            yield n

    async with drive(app) as t:
        with pytest.raises(asyncio.TimeoutError):
            async with asyncio.timeout(0.2):
                await slow.ask(1)
        assert len(app.calls) == 0
        held.set()
        assert await t.ask(slow, 2) == 2
        assert app.calls.late == 1


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
async def test_a_lost_connection_delays_an_answer_and_no_more(guarantee):
    app = Topology(StreamSettings('shop', guarantee=guarantee))
    held = asyncio.Event()

    @app.agent()
    async def slow(stream):
        async for n in stream:
            await held.wait()
            yield n

    async with drive(app) as t:
        question = slow.ask_nowait(7)
        await eventually(lambda: not slow_rests(t))
        t._broker.network.drop_connections()
        held.set()
        await t.settle()
        assert await question == 7


async def test_the_end_of_the_application_fails_questions(app):
    @app.agent()
    async def silent(stream):
        async for _ in stream:
            if False:
                yield

    async with drive(app) as t:
        question = silent.ask_nowait(1)
        await t.settle()
    with pytest.raises(errors.ConnectionLost, match='application stops'):
        await question
    with pytest.raises(errors.PublishError, match='is not running'):
        await silent.ask(1)


async def test_a_topic_that_is_named_is_used_and_kept(plain):
    app = Topology(StreamSettings('shop', reply_to='answers', reply_create=True))

    @app.agent()
    async def double(stream):
        async for n in stream:
            yield n * 2

    async with drive(app) as t:
        await t.settle()
        assert 'answers' in t._broker.topics  # before anybody has asked
        assert await t.ask(double, 1) == 2
        await t.restart()
        assert len(t.read('answers')) == 1
        assert await t.ask(double, 2) == 4


async def test_without_a_topic_for_answers_nothing_can_be_asked():
    app = Topology(StreamSettings('shop', reply_to='answers'))

    @app.agent()
    async def double(stream):
        async for n in stream:
            yield n * 2

    async with drive(app) as t:
        with pytest.raises(errors.StreamError, match=r'Topic answers of answers does not exist'):
            await t.ask(double, 1)
        await double.cast(2)
        await t.settle()
        assert double.stats.processed == 1


async def test_a_prefix_of_somebodys_own():
    app = Topology(StreamSettings('shop', reply_prefix='till-'))
    assert app.calls.reply_to.startswith('till-replies-')


async def test_a_question_that_a_filter_drops_is_answered_at_once(app):
    even = app.topic('numbers', value_type=int, partitions=1).stream().filter(lambda n: n % 2 == 0)

    @app.agent(even)
    async def double(stream):
        async for n in stream:
            yield n * 2

    async with drive(app):
        assert await double.ask(4) == 8
        async with asyncio.timeout(5):
            with pytest.raises(errors.RemoteError, match='dropped on its way to') as caught:
                await double.ask(3)
        assert caught.value.type == 'NoResponder'
        assert await double.ask(6) == 12


async def test_a_question_that_another_agent_may_answer_is_left_to_it(app):
    numbers = app.topic('numbers', value_type=int, partitions=1)

    @app.agent(numbers.stream().filter(lambda n: n % 2 == 0))
    async def even(stream):
        async for n in stream:
            yield f'{n} is even'

    @app.agent(numbers.stream().filter(lambda n: n % 2 == 1))
    async def odd(stream):
        async for n in stream:
            yield f'{n} is odd'

    async with drive(app):
        assert await even.ask(3) == '3 is odd'
        assert await even.ask(4) == '4 is even'
