"""Subscriptions: any time, never for the broker's sake an error, always a state."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from service_scaffold import events
from service_scaffold.testing import running
from test.events.conftest import Inbox, MakeApp, until


@pytest.mark.parametrize('exchange', ['', '.plant', 'a/b', 'a b', 'x' * 201, 7])
def test_an_exchange_name_that_not_all_transports_have_is_a_value_error_at_once(
    app: web.Application, exchange: str
) -> None:
    with pytest.raises(ValueError, match='exchange'):
        events.get_listener(app).subscribe(exchange, '#')


@pytest.mark.parametrize('pattern', ['a/b', 'a+', 'a*', '#b', 'x' * 256, None])
def test_a_pattern_that_not_all_transports_have_is_a_value_error_at_once(
    app: web.Application, pattern: str
) -> None:
    with pytest.raises(ValueError, match='routing'):
        events.get_listener(app).subscribe('plant', pattern)


def test_an_unknown_exchange_type_is_a_value_error(app: web.Application) -> None:
    with pytest.raises(ValueError, match='headers'):
        events.get_listener(app).subscribe('plant', '#', 'headers')


def test_a_group_name_is_checked(app: web.Application) -> None:
    with pytest.raises(ValueError, match='group'):
        events.get_listener(app).subscribe('plant', '#', group='a/b')


def test_dead_letters_without_a_group_are_a_value_error(app: web.Application) -> None:
    with pytest.raises(ValueError, match='group'):
        events.get_listener(app).subscribe('plant', '#', policy=events.Policy(dead_letter=True))


def test_str_names_the_subscription(app: web.Application) -> None:
    listener = events.get_listener(app)
    assert str(listener.subscribe('plant', 'tank.*')) == '<live view plant/tank.*>'
    grouped = listener.subscribe('plant', 'tank.*', group='history')
    assert str(grouped) == '<subscription plant/tank.* group=history>'


async def test_each_callback_gets_its_own_whenever_it_subscribed(app: web.Application) -> None:
    """Before start, while the broker is down, while connected."""
    before, down, after = Inbox(), Inbox(), Inbox()
    events.get_listener(app).subscribe('plant', 'before', on_message=before)
    async with running(app) as plant:
        plant.bus.down()
        late = plant.listener.subscribe('plant', 'down', on_message=down)
        assert late.state == 'waiting'
        plant.bus.up()
        await plant.wait_active()
        await plant.listener.subscribe('plant', 'after', on_message=after).wait_active(5)

        for routing in ('before', 'down', 'after'):
            await plant.publisher.publish('plant', routing, routing)
        await plant.bus.join()

        assert (before.values, down.values, after.values) == (['before'], ['down'], ['after'])


async def test_wait_active_says_what_it_waits_for(app: web.Application) -> None:
    async with running(app) as plant:
        plant.bus.down()
        subscription = plant.listener.subscribe('plant', 'a.#')
        with pytest.raises(TimeoutError, match=r'live view plant/a\.#> is still waiting'):
            await subscription.wait_active(0.05)


async def test_it_is_not_active_from_the_moment_the_connection_is_lost(
    app: web.Application,
) -> None:
    subscription = events.get_listener(app).subscribe('plant', '#')
    async with running(app) as plant:
        plant.bus.drop_connections()
        assert subscription.state == 'waiting'
        assert not subscription.active
        await subscription.wait_active(5)


async def test_the_default_handler_logs_the_message(
    app: web.Application, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level('INFO')
    events.get_listener(app).subscribe('plant', '#')
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'tank.level', {'litres': 3})
        await plant.bus.join()
    assert '<live view plant/#> received a message: routing=tank.level' in caplog.text


async def test_the_handler_can_be_swapped_while_it_runs(app: web.Application) -> None:
    first, second = Inbox(), Inbox()
    subscription = events.get_listener(app).subscribe('plant', '#', on_message=first, group='g')
    async with running(app) as plant:
        first.close()
        await plant.publisher.publish('plant', 'a', 1)
        await first.got(1)
        subscription.on_message = second
        await plant.publisher.publish('plant', 'a', 2)
        first.open.set()
        await plant.bus.join()
    assert (first.values, second.values) == ([1], [2])


async def test_a_handler_that_cannot_take_messages_leaves_the_one_before(
    app: web.Application,
) -> None:
    inbox = Inbox()
    subscription = events.get_listener(app).subscribe('plant', '#', on_message=inbox)

    async def two(subscription: object, key: str) -> None: ...

    with pytest.raises(TypeError, match='two'):
        subscription.on_message = two  # type: ignore[assignment]
    assert subscription.on_message is inbox
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        await plant.bus.join()
    assert inbox.values == [1]


async def test_unsubscribed_nothing_more_comes(app: web.Application) -> None:
    inbox, other = Inbox(), Inbox()
    listener = events.get_listener(app)
    subscription = listener.subscribe('plant', '#', on_message=inbox)
    listener.subscribe('plant', '#', on_message=other)
    async with running(app) as plant:
        subscription.unsubscribe()
        await plant.publisher.publish('plant', 'a', 1)
        await other.got(1)
    assert subscription.state == 'closed'
    assert inbox.values == []


@pytest.mark.parametrize('concurrency', [1, 4])
async def test_a_handler_that_runs_while_its_group_is_unsubscribed_settles(
    app: web.Application, concurrency: int
) -> None:
    """It finishes and is acked; what had not begun stays in the queue, none is lost."""
    inbox = Inbox()
    listener = events.get_listener(app)
    policy = events.Policy(concurrency=concurrency)
    subscription = listener.subscribe('plant', '#', on_message=inbox, group='g', policy=policy)
    async with running(app) as plant:
        inbox.close()
        await plant.publisher.publish_many('plant', [('a', n) for n in range(20)])
        await inbox.got(1)
        subscription.unsubscribe()
        inbox.open.set()
        await until(lambda: not plant.bus.worklist.consumers)
        assert inbox.finished == [0]
        assert len(plant.bus.routing.queues['g@plant']) == 19

        listener.subscribe('plant', '#', on_message=inbox, group='g')
        await plant.bus.join()
    assert inbox.finished == list(range(20))


async def test_subscribing_again_at_once_loses_nothing(app: web.Application) -> None:
    inbox = Inbox()
    listener = events.get_listener(app)
    subscription = listener.subscribe('plant', '#', on_message=inbox, group='g')
    async with running(app) as plant:
        for number in range(30):
            await plant.publisher.publish('plant', 'a', number)
            subscription.unsubscribe()
            subscription = listener.subscribe('plant', '#', on_message=inbox, group='g')
        await plant.bus.join()
    assert set(inbox.values) == set(range(30))


async def test_a_thousand_subscriptions_come_and_go_without_a_trace(app: web.Application) -> None:
    listener = events.get_listener(app)
    async with running(app) as plant:
        keep = listener.subscribe('plant', 'kept')
        await keep.wait_active(5)
        tasks = len(asyncio.all_tasks())
        for number in range(1000):
            group = 'g' if number % 2 else None
            one = listener.subscribe('plant', f'a.{number}', group=group)
            if number % 100 == 0:
                await one.wait_active(5)
            one.unsubscribe()
        await until(lambda: len(listener.consumers) == 1 and len(plant.bus.worklist.consumers) == 1)
        assert listener.subscriptions == (keep,)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)


async def test_an_exchange_of_another_type_fails_alone_and_heals(
    make_app: MakeApp,
) -> None:
    from service_scaffold.clock import ManualClock

    clock = ManualClock()
    app = make_app(clock=clock)
    listener = events.get_listener(app)
    good = Inbox()
    async with running(app) as plant:
        await plant.publisher.publish('odd', 'a', 1, 'fanout')
        bad = listener.subscribe('odd', 'a')
        group = listener.subscribe('odd', 'a', group='g')
        fine = listener.subscribe('plant', 'a', on_message=good)
        await fine.wait_active(5)
        await until(lambda: (bad.state, group.state) == ('failed', 'failed'))
        assert 'fanout' in str(bad.last_error)
        await plant.publisher.publish('plant', 'a', 1)
        await good.got(1)

        plant.bus.delete_exchange('odd')
        for _ in range(10):
            await clock.advance(10)
        await bad.wait_active(5)
        await group.wait_active(5)


async def test_a_group_cannot_have_an_exchange_under_two_types(app: web.Application) -> None:
    listener = events.get_listener(app)
    first = listener.subscribe('plant', 'a', group='g')
    with pytest.raises(ValueError, match='topic'):
        listener.subscribe('plant', 'a', 'direct', group='g')
    first.unsubscribe()
    listener.subscribe('plant', 'a', 'direct', group='g')
    async with running(app):
        pass


async def test_topic_direct_and_fanout_match_as_promised(app: web.Application) -> None:
    listener = events.get_listener(app)
    topic, direct, fanout = Inbox(), Inbox(), Inbox()
    listener.subscribe('t', 'a.*.#', on_message=topic)
    listener.subscribe('d', 'a.b', 'direct', on_message=direct)
    listener.subscribe('f', 'ignored', 'fanout', on_message=fanout)
    async with running(app) as plant:
        for exchange, kind in (('t', 'topic'), ('d', 'direct'), ('f', 'fanout')):
            for routing in ('a', 'a.b', 'a.b.c'):
                await plant.publisher.publish(exchange, routing, routing, kind)
        await plant.bus.join()
    assert topic.values == ['a.b', 'a.b.c']
    assert direct.values == ['a.b']
    assert fanout.values == ['a', 'a.b', 'a.b.c']


def test_memory_stays_bounded_when_it_memorises_nothing_of_the_closed(app: web.Application) -> None:
    """A closed live view is not kept alive by the matcher."""
    import gc
    import weakref

    listener = events.get_listener(app)
    kept = listener.subscribe('plant', 'a')
    closed = listener.subscribe('plant', 'a')
    reference = weakref.ref(closed)
    closed.unsubscribe()
    del closed
    gc.collect()
    assert reference() is None
    assert kept.state == 'waiting'
