"""Agents: order, lanes, decisions, acknowledgement, on the log in memory."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time

import pytest

from service_scaffold.streams.decision import Decision
from service_scaffold.streams.driver import drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.testing.conformance.inbox import eventually


@pytest.fixture(params=['at_least_once', 'exactly_once'])
def app(request: pytest.FixtureRequest) -> Topology:
    """An application with nothing declared."""
    return Topology(StreamSettings('shop', guarantee=request.param, drain_s=0.1))


def lane_of(number: int) -> int:
    """Return which of eight lanes handles `key-{number}`."""
    return hash(b'key-%d' % number) % 8


async def test_a_key_stays_in_order_while_lanes_overlap(app):
    """Many keys at once take a fraction of the time that one after another would."""
    numbers = app.topic('numbers', value_type=int)
    seen = app.Table('seen', default=list)
    slept_s = 0.0

    @app.agent(numbers, concurrency=16)
    async def work(stream):
        nonlocal slept_s
        async for event in stream.events():
            pause_s = random.uniform(0, 0.004)
            slept_s += pause_s
            await asyncio.sleep(pause_s)
            seen[event.key] = [*seen[event.key], event.value]

    async with drive(app) as t:
        for number in range(50):
            for key in range(40):
                await t.send(numbers, number, key=f'key-{key}')
        began = time.monotonic()
        await t.settle()
        took_s = time.monotonic() - began
    assert slept_s > 2
    assert took_s < slept_s / 4 + 1


@pytest.mark.parametrize('concurrency', [1, 4, 16])
async def test_every_key_is_handled_in_its_order(app, concurrency):
    numbers = app.topic('numbers', value_type=int)
    seen = app.Table('seen', default=list)

    @app.agent(numbers, concurrency=concurrency)
    async def work(stream):
        async for event in stream.events():
            if random.random() < 0.2:
                await asyncio.sleep(0)
            if event.value == 7 and random.random() < 0.5:
                raise OSError('now and then')  # the key waits for the next attempt
            seen[event.key] = [*seen[event.key], event.value]

    async with drive(app) as t:
        for number in range(20):
            for key in range(10):
                await t.send(numbers, number, key=f'key-{key}')
        await t.settle()
        dead = {event.key for event in t.read('numbers.dlq')}
        for key in range(10):
            wanted = [n for n in range(20) if n != 7 or f'key-{key}' not in dead]
            assert seen[f'key-{key}'] == wanted


async def test_other_keys_go_on_while_one_is_tried_again(app):
    numbers = app.topic('numbers', value_type=int, partitions=1)
    out = app.topic('out', value_type=int, partitions=1)
    trouble = True

    def decide(agent, error, event):
        return Decision.RETRY(max=100, backoff_s=60)

    @app.agent(numbers, concurrency=8, on_error=decide, sink=[out])
    async def work(stream):
        async for number in stream:
            if number == 3 and trouble:
                raise OSError('not now')
            yield number

    async with drive(app) as t:
        for number in range(20):
            await t.send(numbers, number, key=f'key-{number}')
        session = t._worker.session
        behind = [n for n in range(3, 20) if lane_of(n) == lane_of(3)]
        await eventually(lambda: work.stats.processed == 20 - len(behind))
        await session.flush()
        assert {event.value for event in t.read(out)} == set(range(20)) - set(behind)
        trouble = False
        await t.settle()
        assert {event.value for event in t.read(out)} == set(range(20))


@pytest.mark.parametrize(
    ('decision', 'dead', 'skipped'),
    [(Decision.SKIP, [], 1), (Decision.DEAD_LETTER, [5], 0), (Decision.RETRY(max=2), [5], 0)],
)
async def test_a_decision_says_what_becomes_of_an_event(app, decision, dead, skipped):
    numbers = app.topic('numbers', value_type=int, partitions=1)
    out = app.topic('out', value_type=int, partitions=1)

    async def decide(agent, error):
        return decision

    @app.agent(numbers, sink=[out], on_error=decide)
    async def work(stream):
        async for number in stream:
            yield number
            if number == 5:
                raise ValueError('five')

    async with drive(app) as t:
        for number in range(8):
            await t.send(numbers, number)
        await t.settle()
        assert [event.value for event in t.read(out)] == [0, 1, 2, 3, 4, 6, 7]
        assert [event.value for event in t.read('numbers.dlq')] == dead
        assert work.stats.skipped == skipped
        if dead:
            headers = t.read('numbers.dlq')[0].headers
            rejected = decision is Decision.DEAD_LETTER
            assert headers['x-death-reason'] == (b'rejected' if rejected else b'retries_exhausted')
            assert headers['x-death-error'] == b'ValueError: five'
            assert headers['x-origin-offset'] == b'5'


@pytest.mark.parametrize('own', [True, False])
async def test_an_event_that_fails_may_be_one_to_stop_at(app, own):
    """After the last attempt: because `on_error` says so, or since nothing may be given up."""
    app.settings = dataclasses.replace(app.settings, ack_exceptions=own)
    decision = Decision.RETRY(max=3, then=Decision.STOP) if own else None
    numbers = app.topic('numbers', value_type=int, partitions=1)
    attempts = 0

    @app.agent(numbers, on_error=lambda agent, error: decision)
    async def fail(stream):
        nonlocal attempts
        async for number in stream:
            attempts += 1
            raise ValueError(number)

    async with drive(app) as t:
        await t.send(numbers, 7)
        with pytest.raises(ValueError, match='7'):
            await t.settle()
        assert t.read('numbers.dlq') == []
        assert attempts == 3


def test_no_attempts_come_after_the_last():
    with pytest.raises(ValueError, match='no other attempt'):
        Decision.RETRY(max=2, then=Decision.RETRY)


async def test_stop_leaves_the_event_where_it_is(app):
    """The application ends; started again, it sees the event again."""
    numbers = app.topic('numbers', value_type=int, partitions=1)
    seen = []
    broken = True

    @app.agent(numbers, on_error=lambda agent, error: Decision.STOP)
    async def work(stream):
        async for number in stream:
            seen.append(number)
            if number == 2 and broken:
                raise ValueError('two')

    async with drive(app) as t:
        for number in range(4):
            await t.send(numbers, number)
        with pytest.raises(ValueError, match='two'):
            await t.settle()
        await t.stop()
        broken = False
        await t.start()
        assert seen == [0, 1, 2, 2, 3]


async def test_what_is_finished_behind_a_hanging_event_is_not_done_again(app):
    """The commit stays at the event that hangs; a note beside it says what is finished."""
    numbers = app.topic('numbers', value_type=int, partitions=1)
    seen = []
    hangs = asyncio.Event()
    go_on = asyncio.Event()

    @app.agent(numbers, concurrency=8)
    async def work(stream):
        async for number in stream:
            seen.append(number)
            if number == 10 and not go_on.is_set():
                hangs.set()
                await go_on.wait()

    async with drive(app) as t:
        for number in range(60):
            await t.send(numbers, number, key=f'key-{number}')
        behind = [n for n in range(10, 60) if lane_of(n) == lane_of(10)]
        await eventually(lambda: hangs.is_set() and work.stats.processed == 60 - len(behind))
        session = t._worker.session
        await session.flush()
        (task,) = session.tasks.values()
        assert task.committed['numbers'] == 10
        await t.stop()  # it is cut off
        go_on.set()
        await t.start()
        assert seen.count(10) == 2
        assert sorted(set(seen)) == list(range(60))
        assert all(seen.count(n) == 1 for n in range(60) if n != 10)


async def test_without_acknowledgement_an_event_comes_again(app):
    numbers = app.topic('numbers', value_type=int, partitions=1)
    seen = []

    @app.agent(numbers)
    async def work(stream):
        unacked = stream.noack()
        async for event in unacked.events():
            seen.append(event.value)
            if event.value % 2 == 0:
                await unacked.ack(event)

    async with drive(app) as t:
        for number in range(6):
            await t.send(numbers, number)
        await t.settle()
        await t.restart()
        assert seen == [0, 1, 2, 3, 4, 5, 1, 3, 5]


async def test_the_one_to_blame_is_found_in_a_batch(app):
    """A batch that fails is taken apart: only what fails alone is dead-lettered."""
    numbers = app.topic('numbers', value_type=int, partitions=1)
    done = []

    @app.agent(numbers)
    async def work(stream):
        async for batch in stream.take(5, within=1):
            if 3 in batch:
                raise ValueError('three')
            done.extend(batch)

    async with drive(app) as t:
        for number in range(10):
            await t.send(numbers, number)
        await t.settle()
        await t.advance(2)
        assert sorted(done) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
        assert [event.value for event in t.read('numbers.dlq')] == [3]


async def test_a_body_that_fails_before_its_first_event_is_started_again(app):
    numbers = app.topic('numbers', value_type=int, partitions=1)
    starts = []
    seen = []

    @app.agent(numbers)
    async def work(stream):
        starts.append(1)
        if len(starts) < 3:
            raise OSError('no database yet')
        async for number in stream:
            seen.append(number)

    async with drive(app) as t:
        await t.send(numbers, 1)
        await t.settle()
        assert seen == [1]
        assert len(starts) == 3
