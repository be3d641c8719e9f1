"""Bodies that misbehave: what becomes of the event in hand, and of those beside it."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from service_scaffold import errors
from service_scaffold.streams.decision import Decision
from service_scaffold.streams.driver import drive
from service_scaffold.streams.effects import current_event
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.testing.conformance.inbox import eventually


@pytest.fixture(params=['at_least_once', 'exactly_once'])
def app(request: pytest.FixtureRequest) -> Topology:
    """An application with nothing declared."""
    return Topology(StreamSettings('shop', guarantee=request.param, drain_s=0.1))


async def test_an_error_whose_text_is_no_text_is_dead_lettered_all_the_same(app):
    """File names that are no UTF-8 get into messages; some errors cannot be shown at all."""
    numbers = app.topic('numbers', value_type=int, partitions=1)

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError('no text')

    @app.agent(numbers)
    async def work(stream):
        async for number in stream:
            if number == 1:
                raise OSError('no such file: \udcff')
            if number == 2:
                raise Mute

    async with drive(app) as t:
        for number in range(4):
            await t.send(numbers, number)
        await t.settle()

        dead = t.read('numbers.dlq')

    assert [event.value for event in dead] == [1, 2]
    assert b'no such file' in dead[0].headers['x-death-error']
    assert b'Mute' in dead[1].headers['x-death-error']


@pytest.mark.parametrize(
    'decision', [Decision.SKIP, Decision.DEAD_LETTER, Decision.RETRY(max=2), None]
)
async def test_no_decision_on_a_batch_takes_the_innocent_along(app, decision):
    numbers = app.topic('numbers', value_type=int, partitions=1)
    good, judged = [], []

    def decide(agent, error, event):
        judged.append(event.value)
        return decision

    @app.agent(numbers, on_error=decide)
    async def work(stream):
        async for batch in stream.take(5, within=1.0):
            if 2 in batch:
                raise ValueError('not two')
            good.extend(batch)

    async with drive(app) as t:
        for number in range(5):
            await t.send(numbers, number)
        await t.settle()
        await t.advance(2)

        dead = [event.value for event in t.read('numbers.dlq')]

    assert good == [0, 1, 3, 4]
    assert dead == ([] if decision is Decision.SKIP else [2])
    assert judged[-1] == 2


async def test_what_was_not_acknowledged_comes_again_in_its_order(app):
    numbers = app.topic('numbers', value_type=int, partitions=1)
    seen = []

    @app.agent(numbers)
    async def work(stream):
        held = []
        async for event in stream.noack().events():
            seen.append(event.value)
            held.append(event)
            if len(held) == 3:
                if seen.count(2) == 1:
                    raise OSError('once')
                for each in held:
                    await stream.ack(each)
                held.clear()

    async with drive(app) as t:
        for number in range(3):
            await t.send(numbers, number)
        await t.settle()

    assert seen == [0, 1, 2, 0, 1, 2]


async def test_what_is_written_without_acknowledgement_does_not_count(app):
    numbers = app.topic('numbers', value_type=int, partitions=1)
    sums = app.Table('sums', default=int)
    out = app.topic('out', partitions=1)
    failed = False

    @app.agent(numbers, sink=[out])
    async def work(stream):
        nonlocal failed
        held = []
        async for event in stream.noack().events():
            sums['all'] += event.value
            held.append(event)
            if len(held) == 2:
                if not failed:
                    failed = True
                    raise OSError('once')
                yield sums['all']
                for each in held:
                    await stream.ack(each)
                held.clear()

    async with drive(app) as t:
        await t.send(numbers, 1)
        await t.send(numbers, 10)
        await t.settle()

        assert sums['all'] == 11
        assert [event.value for event in t.read(out)] == [11]


async def test_under_acknowledgement_by_hand_each_event_has_its_own_attempts(app):
    numbers = app.topic('numbers', value_type=int, partitions=1)
    seen = []

    @app.agent(numbers)
    async def work(stream):
        async for event in stream.noack().events():
            seen.append(event.value)
            if seen.count(event.value) < 3:
                raise OSError('twice each')
            await stream.ack(event)

    async with drive(app) as t:
        for number in range(3):
            await t.send(numbers, number)
        await t.settle()

        assert t.read('numbers.dlq') == []
    assert seen == [0, 0, 0, 1, 1, 1, 2, 2, 2]


async def test_what_is_sent_under_acknowledgement_by_hand_is_like_its_event(app):
    """Key and time are inherited, and the event is known, as with any other event."""
    numbers = app.topic('numbers', value_type=int, partitions=1)
    out, other = app.topic('out', partitions=1), app.topic('other', partitions=1)

    @app.agent(numbers, sink=[out])
    async def work(stream):
        async for event in stream.noack().events():
            assert current_event() is event
            await other.send(value=event.value)
            yield event.value
            await stream.ack(event)

    async with drive(app) as t:
        await t.send(numbers, 1, key='k', timestamp=7.0)
        await t.settle()
        (yielded,), (sent,) = t.read(out), t.read(other)

    assert (yielded.key, yielded.timestamp, sent.timestamp) == ('k', 7.0, 7.0)


async def test_a_body_that_refuses_to_end_holds_nothing_up(app):
    """Its partition goes on elsewhere, and what it does from then on does not count."""
    numbers = app.topic('numbers', value_type=int, partitions=1)
    out = app.topic('out', value_type=int, partitions=1)
    sums = app.Table('sums', default=int)
    stubborn, over = True, asyncio.Event()

    @app.agent(numbers, sink=[out])
    async def work(stream):
        async for number in stream:
            while stubborn:
                try:
                    await over.wait()
                    break
                except asyncio.CancelledError:
                    pass
            sums['all'] += number
            yield number

    async with drive(app) as t:
        await t.send(numbers, 1)
        await eventually(lambda: work.stats.processed == 0 and t.worker.session.lanes[0].current)
        (task,) = t.worker.session.tasks.values()
        stubborn = False
        async with asyncio.timeout(3):
            await t.worker.session.restart(task)
        over.set()
        await t.settle()

        assert sums['all'] == 1
        assert [event.value for event in t.read(out)] == [1]


async def test_a_body_that_ends_on_cancellation_sends_nothing(app):
    """What it does on its way out belongs to an event that is not finished."""
    numbers = app.topic('numbers', value_type=int, partitions=1)
    out = app.topic('out', value_type=int, partitions=1)

    @app.agent(numbers)
    async def work(stream):
        async for number in stream:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await asyncio.sleep(0)
                await out.send(value=number)

    async with drive(app) as t:
        await t.send(numbers, 1)
        await eventually(lambda: t.worker.session.lanes[0].current)
        await t.stop()

        assert t.read(out) == []


async def test_a_start_that_fails_is_judged_too(app):
    """Before the first event there is none to blame, but an application may be stopped."""
    told = []

    def decide(agent, error, event):
        told.append((str(error), event))
        return Decision.STOP if len(told) == 3 else None

    @app.agent(app.topic('numbers', value_type=int, partitions=1), on_error=decide)
    async def work(stream):
        raise OSError('not there')
        async for _ in stream:
            pass

    async def run():
        async with drive(app) as t:
            await t.send('numbers', 1)
            await t.settle()

    with pytest.raises(OSError, match='not there'):
        await run()
    assert told == [('not there', None)] * 3


async def test_what_is_echoed_of_a_filtered_event_survives_the_failure_of_its_batch(app):
    numbers = app.topic('numbers', value_type=int, partitions=1)
    copy = app.topic('copy', value_type=int, partitions=1)
    failed = False

    @app.agent(numbers)
    async def work(stream):
        nonlocal failed
        async for _ in stream.echo(copy).filter(lambda n: n != 1).take(3, within=1.0):
            if not failed:
                failed = True
                raise OSError('once')

    async with drive(app) as t:
        for number in range(4):
            await t.send(numbers, number)
        await t.settle()
        await t.advance(2)

        assert sorted(event.value for event in t.read(copy)) == [0, 1, 2, 3]


@pytest.mark.parametrize('waits', [False, True])
async def test_an_error_hook_that_is_cancelled_by_itself_decides_nothing(app, waits):
    numbers = app.topic('numbers', value_type=int, partitions=1)
    done = []

    async def decide(agent, error, event):
        if waits:
            cancelled = asyncio.ensure_future(asyncio.sleep(60))
            cancelled.cancel()
            await cancelled
        raise asyncio.CancelledError

    @app.agent(numbers, on_error=decide)
    async def work(stream):
        async for number in stream:
            if number == 1:
                raise ValueError(number)
            done.append(number)

    async with drive(app) as t:
        for number in range(3):
            await t.send(numbers, number)
        await t.settle()
        dead = [event.value for event in t.read('numbers.dlq')]

    assert (done, dead) == ([0, 2], [1])


async def test_a_lane_that_ends_stops_the_application_visibly(app):
    """Whatever ends it: its partition would stand still, and nobody would know."""
    numbers = app.topic('numbers', value_type=int, partitions=1)

    @app.agent(numbers)
    async def work(stream):
        async for _ in stream:
            raise ValueError

    def interrupt(*args: object) -> None:
        asyncio.current_task().cancel()

    async with drive(app) as t:
        work.on_error.decide = lambda *args: asyncio.sleep(0, interrupt())
        await t.send(numbers, 1)
        with pytest.raises(errors.StreamError, match=r'agent work has ended: .*cancelled'):
            await t.settle()


async def test_a_record_whose_type_raises_whatever_it_likes_is_dead_lettered(app):
    class Number(msgspec.Struct):
        n: int

        def __post_init__(self):
            if self.n == 1:
                raise KeyError(self.n)

    numbers, done = app.topic('numbers', value_type=Number, partitions=1), []

    @app.agent(numbers)
    async def work(stream):
        async for number in stream:
            done.append(number.n)

    async with drive(app) as t:
        for number in range(3):
            await t.send('numbers', {'n': number})
        await t.settle()
        (dead,) = t.read('numbers.dlq')

    assert done == [0, 2]
    assert (dead.value, dead.headers['x-death-error']) == ({'n': 1}, b'KeyError: 1')


async def test_events_that_wait_for_their_acknowledgement_are_counted_as_in_flight(app):
    numbers = app.topic('numbers', partitions=1)

    @app.agent(numbers)
    async def work(stream):
        stream = stream.noack()
        held = []
        async for event in stream.events():
            held.append(event)
            if len(held) == 3:
                await held[0].ack()

    async with drive(app) as t:
        for number in range(3):
            await t.send(numbers, number)
        await eventually(lambda: work.stats.processed == 1)
        families = {family.name: family for family in t.worker.metric_families()}
        assert max(families['streams_in_flight'].samples) == (('shop', 'work'), 2)
