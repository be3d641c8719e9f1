"""Partitions whose commits stand still, and events that take long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from service_scaffold import errors, features
from service_scaffold.streams.decision import Decision
from service_scaffold.streams.driver import Driver, drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.track import LEAD

SOFT_S, HARD_S = 6.0, 12.0
TURNS = 20


def declare(**settings) -> Topology:
    limits = {'stalled_s': SOFT_S, 'stuck_s': HARD_S, **settings}
    return Topology(StreamSettings('shop', **limits))


def health_of(driver: Driver) -> features.Health:
    return driver.worker.health()


@asynccontextmanager
async def driven(app: Topology, door: asyncio.Event) -> AsyncIterator[Driver]:
    """Drive, and let bodies that hang go on at the end: the stop waits for them."""
    async with drive(app) as t:
        try:
            yield t
        finally:
            door.set()


async def pass_time(driver: Driver, seconds: float) -> None:
    """Let time pass although a body hangs, for which `advance` would wait."""
    await driver.clock.advance(seconds, yields=TURNS)


class Work:
    """An agent that hangs at the value `stuck` while the door is closed."""

    def __init__(self, app: Topology) -> None:
        self.door = asyncio.Event()
        self.begun: list[str] = []
        self.done: list[str] = []

        @app.agent(app.topic('orders', partitions=1), name='slow')
        async def work(stream):
            async for value in stream:
                self.begun.append(value)
                if value == 'stuck':
                    await self.door.wait()
                self.done.append(value)


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
async def test_a_body_that_hangs_is_begun_again_at_the_last_commit(guarantee):
    """After the soft limit the status names it and its task begins again; progress mends it."""
    app = declare(guarantee=guarantee)
    work = Work(app)
    async with driven(app, work.door) as t:
        await t.send('orders', 'first')
        await t.settle()
        await t.send('orders', 'stuck')
        await t.send('orders', 'last')
        await pass_time(t, SOFT_S - 2)
        assert health_of(t).ready
        assert work.begun == ['first', 'stuck']

        await pass_time(t, 4)

        assert work.begun == ['first', 'stuck', 'stuck'], 'begun again at the commit'
        health = health_of(t)
        assert not health.ready
        (stalled,) = health.detail['stalled']
        assert (stalled['topic'], stalled['partition']) == ('orders', 0)
        assert (stalled['agent'], stalled['offset']) == ('slow', 1)

        work.door.set()
        await t.settle()
        await pass_time(t, 2)

        assert work.done == ['first', 'stuck', 'last']
        assert health_of(t).ready
        assert 'stalled' not in health_of(t).detail


async def test_a_body_that_goes_on_hanging_stops_the_application():
    """The hard limit counts on over the restart of the task."""
    app = declare()
    work = Work(app)
    async with driven(app, work.door) as t:
        await t.send('orders', 'stuck')
        await pass_time(t, HARD_S - 2)
        assert t.worker.failure is None
        await pass_time(t, 4)
        with pytest.raises(errors.StreamError, match=r'orders/0 stands at offset 0 .* slow'):
            await t.settle()


async def test_a_batch_that_is_half_full_is_no_stall():
    """A body that waits for more, with all there is in its hands, waits by right."""
    app = declare()
    got = []

    @app.agent(app.topic('orders', partitions=1))
    async def work(stream):
        async for batch in stream.take(3, within=None):
            got.append(batch)

    async with drive(app) as t:
        await t.send('orders', 1)
        await t.advance(2 * HARD_S)
        assert health_of(t).ready
        await t.send('orders', 2)
        await t.send('orders', 3)
        await t.settle()
        assert got == [[1, 2, 3]]


async def test_attempts_that_a_user_has_chosen_are_no_stall():
    """Each attempt, and the pause before it, is progress, though the offset stands still."""
    app = declare()
    attempts = []
    back = asyncio.Event()

    @app.agent(
        app.topic('orders', partitions=1), on_error=lambda agent, exc: Decision.RETRY(backoff_s=2)
    )
    async def work(stream):
        async for value in stream:
            attempts.append(value)
            if not back.is_set():
                raise OSError('the other side is away')

    async with driven(app, back) as t:
        await t.send('orders', 'a')
        await pass_time(t, 3 * HARD_S)
        assert health_of(t).ready
        assert len(attempts) > 3
        back.set()
        await t.settle()


async def test_a_body_that_never_gets_to_its_first_event_is_a_stall():
    app = declare(stuck_s=600.0)
    back = asyncio.Event()
    done = []

    @app.agent(app.topic('orders', partitions=1))
    async def work(stream):
        if not back.is_set():
            raise OSError('the other side is away')
        async for value in stream:
            done.append(value)

    async with driven(app, back) as t:
        await t.send('orders', 'a')
        await pass_time(t, 3 * SOFT_S)
        health = health_of(t)
        assert not health.ready
        (stall,) = health.detail['stalled']
        assert stall['agent'] == 'work'
        assert stall['reason'] == ('fails before its first event: OSError: the other side is away')
        back.set()
        await t.settle()
        await pass_time(t, SOFT_S)
        assert health_of(t).ready
    assert done == ['a']


async def test_events_that_nobody_acknowledges_are_a_stall():
    """Under noack, an event that is forgotten holds up the commits of its partition."""
    app = declare()

    @app.agent(app.topic('orders', partitions=1), name='forgetful')
    async def work(stream):
        async for event in stream.noack().events():
            if event.value != 'forgotten':
                await event.ack()

    async with drive(app) as t:
        await t.send('orders', 'forgotten')
        await t.send('orders', 'other')
        await pass_time(t, SOFT_S + 2)
        (stalled,) = health_of(t).detail['stalled']
        assert stalled['agent'] == 'forgetful'
        assert 'acknowledged' in stalled['reason']


async def test_an_idle_partition_is_no_stall():
    """Where all is done, nothing has to move."""
    app = declare()
    Work(app)
    async with drive(app) as t:
        await t.send('orders', 'a')
        await t.advance(2 * HARD_S)
        assert health_of(t).ready


async def test_an_event_that_takes_long_is_warned_of_once(caplog):
    """`processing_s` is about one event, however well the others go."""
    app = declare(processing_s=3.0, checkpoint_s=1.0)
    work = Work(app)
    async with driven(app, work.door) as t:
        with caplog.at_level(logging.WARNING, 'service_scaffold.streams.liveness'):
            await t.send('orders', 'stuck')
            await pass_time(t, 2)
            assert not caplog.messages
            await pass_time(t, 3)
        assert [m.startswith('agent slow has orders-0-0 in hand') for m in caplog.messages] == [
            True
        ]


async def test_a_batch_may_be_larger_than_what_is_read_ahead():
    """A body that waits for more gets more, however much it has in hand."""
    app = declare()
    orders = app.topic('orders', partitions=1)
    got = []

    @app.agent(orders)
    async def work(stream):
        async for batch in stream.take(LEAD + 500, within=None):
            got.append(len(batch))

    async with drive(app) as t:
        for n in range(LEAD + 600):
            await t.send(orders, n)
        await t.settle()
        assert got == [LEAD + 500]
        assert health_of(t).ready
