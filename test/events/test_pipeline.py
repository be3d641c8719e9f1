"""One settlement path: retried, dead-lettered or dropped, and never twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from aiohttp import web

from service_scaffold import events
from service_scaffold.clock import ManualClock
from service_scaffold.message import Handler, Message
from service_scaffold.testing import running
from test.events.conftest import Inbox, MakeApp, until

NO_PAUSE = events.Retry(attempts=3, base_s=0)
BOTH_WAYS = pytest.mark.parametrize('concurrency', [1, 3])


class Level(msgspec.Struct):
    litres: int


def group(app: web.Application, handler: object, **policy: object) -> events.EventSubscription:
    options = {'retry': NO_PAUSE, **policy}
    return events.get_listener(app).subscribe(
        'plant',
        '#',
        on_message=handler,  # type: ignore[arg-type]
        group='g',
        policy=events.Policy(**options),  # type: ignore[arg-type]
    )


@BOTH_WAYS
async def test_raises_twice_then_works_is_three_calls_and_one_settlement(
    make_app: MakeApp, concurrency: int
) -> None:
    """With pauses of 0.1 and 0.2 seconds; the value is decoded once, the attempts are counted."""
    clock = ManualClock()
    app = make_app(clock=clock)
    inbox = Inbox()
    inbox.errors = [RuntimeError('one'), RuntimeError('two')]
    retry = events.Retry(attempts=3, base_s=0.1, jitter=False)
    subscription = group(app, inbox, retry=retry, concurrency=concurrency)
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        await inbox.got(1)
        await clock.advance(0.09)
        assert len(inbox.values) == 1
        await clock.advance(0.02)
        assert len(inbox.values) == 2
        await clock.advance(0.19)
        assert len(inbox.values) == 2
        await clock.advance(0.02)
        await plant.bus.join()
    assert [message.attempt for message in inbox.messages] == [1, 2, 3]
    stats = subscription.stats
    assert (stats.consumed, stats.failed, stats.retried, stats.dead_lettered) == (1, 2, 2, 0)


@BOTH_WAYS
async def test_a_poison_message_is_kept_with_its_story_and_the_next_one_handled(
    make_app: MakeApp, concurrency: int
) -> None:
    app = make_app(clock=ManualClock(1700000000))
    inbox = Inbox()
    inbox.errors = [RuntimeError('bad'), RuntimeError('worse'), LookupError('worst')]
    subscription = group(app, inbox, concurrency=concurrency)
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'tank.level', {'ü': 1}, key='k', headers={'x': 'y'})
        await plant.publisher.publish('plant', 'tank.level', 2, key='k')
        await plant.bus.join()
        original = plant.bus.published('plant')[0]
        (letter,) = plant.bus.dead_letters('plant')
    assert inbox.finished == [2]
    assert (letter.body, letter.routing, letter.key) == (original.body, 'tank.level', 'k')
    assert letter.headers == {
        'x': 'y',
        'x-death-reason': 'retries_exhausted',
        'x-death-error': 'LookupError: worst',
        'x-death-attempts': '3',
        'x-death-time': '1700000000.000',
        'x-origin': 'plant',
        'x-origin-routing': 'tank.level',
        'x-origin-group': 'g',
        'x-origin-message-id': original.message_id,
    }
    assert subscription.stats.dead_lettered == 1


@pytest.mark.parametrize(
    ('body', 'content_type', 'reason', 'said'),
    [
        (b'{"litres":', None, 'undecodable', 'JSON'),
        (b'\xc1', 'application/msgpack', 'undecodable', 'MessagePack'),
        (b'x', 'application/unheard-of', 'undecodable', 'unheard-of'),
        (b'{"litres": "many"}', None, 'invalid', '$.litres'),
        (b'{}', 'application/json; charset=utf-8', 'invalid', 'litres'),
    ],
)
@BOTH_WAYS
async def test_a_body_that_cannot_be_read_is_a_dead_letter_and_never_retried(
    app: web.Application,
    caplog: pytest.LogCaptureFixture,
    body: bytes,
    content_type: str | None,
    reason: str,
    said: str,
    concurrency: int,
) -> None:
    got: list[Level] = []

    async def handle(subscription: object, key: str, message: Level) -> None:
        got.append(message)

    group(app, handle, concurrency=concurrency)
    async with running(app) as plant:
        await plant.bus.publish('plant', 'a', body, content_type=content_type)
        await plant.publisher.publish('plant', 'a', Level(3))
        await plant.bus.join()
        (letter,) = plant.bus.dead_letters('plant')
    assert got == [Level(3)]
    assert (letter.body, letter.headers['x-death-reason']) == (body, reason)
    assert said in letter.headers['x-death-error']
    assert len([r for r in caplog.records if r.levelname == 'WARNING']) == 1


@BOTH_WAYS
async def test_reject_is_never_retried(app: web.Application, concurrency: int) -> None:
    inbox = Inbox()
    inbox.errors = [events.Reject('not mine')]
    group(app, inbox, concurrency=concurrency)
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        await plant.bus.join()
        (letter,) = plant.bus.dead_letters('plant')
    assert len(inbox.values) == 1
    assert letter.headers['x-death-reason'] == 'rejected'


async def test_retry_later_waits_as_long_as_it_says(make_app: MakeApp) -> None:
    clock = ManualClock()
    app = make_app(clock=clock)
    inbox = Inbox()
    inbox.errors = [events.RetryLater(45)]
    group(app, inbox)
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        await inbox.got(1)
        await clock.advance(44)
        assert len(inbox.values) == 1
        await clock.advance(2)
        await plant.bus.join()
    assert inbox.finished == [1]


async def test_retry_later_counts_as_an_attempt(app: web.Application) -> None:
    inbox = Inbox()
    inbox.errors = [events.RetryLater(0) for _ in range(3)]
    group(app, inbox)
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        await plant.bus.join()
        assert plant.bus.dead_letters('plant')[0].headers['x-death-reason'] == 'retries_exhausted'


async def test_without_a_store_it_is_logged_counted_and_acked(
    app: web.Application, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox()
    inbox.errors = [RuntimeError('bad')] * 3
    subscription = group(app, inbox, dead_letter=False)
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        await plant.bus.join()
        assert plant.bus.dead_letters('plant') == []
    assert subscription.stats.dropped == 1
    assert [r.levelname for r in caplog.records if 'is dropped' in r.message] == ['ERROR']


async def test_an_attempt_over_its_time_is_an_exception_like_any_other(
    app: web.Application,
) -> None:
    inbox = Inbox()
    inbox.close()
    group(app, inbox, timeout_s=0.01)
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        await plant.bus.join()
        assert 'TimeoutError' in plant.bus.dead_letters('plant')[0].headers['x-death-error']
    assert len(inbox.values) == 3


@BOTH_WAYS
async def test_what_a_handler_awaits_may_be_cancelled_without_ending_the_worker(
    app: web.Application, concurrency: int
) -> None:
    async def handle(subscription: object, key: str, message: int) -> None:
        if message == 1:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        done.append(message)

    done: list[int] = []
    group(app, handle, concurrency=concurrency)
    async with running(app) as plant:
        await plant.publisher.publish_many('plant', [('a', 1), ('a', 2)])
        await plant.bus.join()
        assert 'cancelled' in plant.bus.dead_letters('plant')[0].headers['x-death-error']
    assert done == [2]


def wrong(error: Callable[[], BaseException]) -> Callable[[Handler], Handler]:
    def middleware(next: Handler) -> Handler:
        async def call(message: Message) -> object:
            if message.body == b'1':
                raise error()
            return await next(message)

        return call

    return middleware


@pytest.mark.parametrize('error', [RuntimeError, asyncio.CancelledError, events.Reject])
@BOTH_WAYS
async def test_what_a_middleware_raises_by_itself_loses_nothing_and_stops_nothing(
    app: web.Application, error: type[BaseException], concurrency: int
) -> None:
    inbox = Inbox()
    events.use(app, consume=wrong(error))
    group(app, inbox, concurrency=concurrency)
    async with running(app) as plant:
        await plant.publisher.publish_many('plant', [('a', n) for n in range(4)])
        await plant.bus.join()
        (letter,) = plant.bus.dead_letters('plant')
    assert letter.body == b'1'
    assert inbox.values == [0, 2, 3]


async def test_a_middleware_that_turns_the_error_into_another_buries_it_once(
    app: web.Application,
) -> None:
    def translate(next: Handler) -> Handler:
        async def call(message: Message) -> object:
            try:
                return await next(message)
            except RuntimeError as error:
                raise LookupError('translated') from error

        return call

    inbox = Inbox()
    inbox.errors = [RuntimeError('bad')] * 3
    events.use(app, consume=translate)
    group(app, inbox)
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        await plant.bus.join()
        (letter,) = plant.bus.dead_letters('plant')
    assert letter.headers['x-death-error'] == 'RuntimeError: bad'


@BOTH_WAYS
async def test_a_store_that_is_away_settles_nothing_and_recovers(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, concurrency: int
) -> None:
    clock = ManualClock()
    app = make_app(clock=clock)
    inbox = Inbox()
    inbox.errors = [events.Reject('no')]
    subscription = group(app, inbox, concurrency=concurrency)
    async with running(app) as plant:
        plant.bus.refuse('plant.dlq')
        await plant.publisher.publish('plant', 'a', 1)
        await until(lambda: subscription.state == 'dlq_unavailable')
        await clock.advance(60)
        assert sum(plant.bus.worklist.left().values()) == 1
        assert not plant.listener.health().ok
        assert sum('cannot be reached' in r.message for r in caplog.records) == 1

        plant.bus.accept('plant.dlq')
        await clock.advance(15)
        await plant.bus.join()
        assert len(plant.bus.dead_letters('plant')) == 1
        assert subscription.state == 'active'
        await plant.publisher.publish('plant', 'a', 2)
        await plant.bus.join()
    assert inbox.finished == [2]


async def test_a_letter_that_is_stored_does_not_hide_one_that_waits(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    """Two lanes: the state is that of the worse one, and one warning tells of it."""
    clock = ManualClock()
    app = make_app(clock=clock)
    inbox = Inbox()
    inbox.errors = [events.Reject('no'), events.Reject('no')]
    subscription = group(app, inbox, concurrency=2)
    async with running(app) as plant:
        plant.bus.refuse('plant.dlq')
        await plant.publisher.publish('plant', 'a', 1)
        await until(lambda: subscription.state == 'dlq_unavailable')
        plant.bus.accept('plant.dlq')
        await plant.publisher.publish('plant', 'b', 2)
        await until(lambda: subscription.stats.dead_lettered == 1)
        assert subscription.state == 'dlq_unavailable'

        await clock.advance(1)
        await until(lambda: subscription.state == 'active')
        assert subscription.stats.dead_lettered == 2
    assert sum('cannot be reached' in record.message for record in caplog.records) == 1


async def test_new_connections_do_not_hurry_a_letter_that_was_refused_twice(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    """A broker that refuses by hanging up would hang up on every one of them."""
    caplog.set_level('DEBUG', 'service_scaffold.events.graveyard')
    clock = ManualClock()
    app = make_app(clock=clock)
    inbox = Inbox()
    inbox.errors = [events.Reject('no')]
    subscription = group(app, inbox)
    async with running(app) as plant:

        def refused() -> int:
            return sum('to store the dead letter' in r.message for r in caplog.records)

        async def reconnect() -> None:
            plant.bus.drop_connections(lambda who: who.startswith('listener'))
            await until(lambda: subscription.state == 'waiting')
            while subscription.state == 'waiting':
                await clock.advance(0.02)

        plant.bus.refuse('plant.dlq')
        await plant.publisher.publish('plant', 'a', 1)
        await until(lambda: refused() == 1)
        await reconnect()
        await until(lambda: refused() == 2)
        await reconnect()
        assert (subscription.state, refused()) == ('dlq_unavailable', 2)

        plant.bus.accept('plant.dlq')
        await clock.advance(1)
        await until(lambda: subscription.state == 'active')


async def test_the_error_in_a_letter_is_capped(app: web.Application) -> None:
    inbox = Inbox()
    inbox.errors = [events.Reject('x' * 5000)]
    group(app, inbox)
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        await plant.bus.join()
        assert len(plant.bus.dead_letters('plant')[0].headers['x-death-error']) == 1000
