"""Groups: at least once, settled after the handler, shared, in order per key."""

from __future__ import annotations

import asyncio
import random

import pytest
from aiohttp import web

from service_scaffold import events, features, service
from service_scaffold.clock import ManualClock
from service_scaffold.testing import running
from test.events.conftest import Inbox, MakeApp, until


async def test_members_share_and_every_group_gets_all(make_app: MakeApp) -> None:
    url = '--eventbus-url=memory://shared-group'
    inboxes = [Inbox(), Inbox(), Inbox()]
    apps = [make_app(url) for _ in inboxes]
    for app, inbox in zip(apps, inboxes, strict=True):
        events.get_listener(app).subscribe('plant', '#', on_message=inbox, group='g')
    other = Inbox()
    events.get_listener(apps[0]).subscribe('plant', '#', on_message=other, group='h')
    async with running(apps[0]) as first, running(apps[1]), running(apps[2]):
        await first.publisher.publish_many('plant', [(f'k{n}', n) for n in range(300)])
        await first.bus.join()
    assert sorted(n for inbox in inboxes for n in inbox.values) == list(range(300))  # type: ignore[type-var]
    assert other.values == list(range(300))


async def test_a_delivery_goes_to_every_subscription_that_matches(app: web.Application) -> None:
    listener = events.get_listener(app)
    a, both = Inbox(), Inbox()
    listener.subscribe('plant', 'a', on_message=a, group='g')
    listener.subscribe('plant', '#', on_message=both, group='g')
    async with running(app) as plant:
        await plant.publisher.publish_many('plant', [('a', 1), ('b', 2)])
        await plant.bus.join()
    assert (a.values, both.values) == ([1], [1, 2])


async def test_it_is_settled_when_all_have_finished(app: web.Application) -> None:
    """One has finished, the other is cut off: both see it again."""
    listener = events.get_listener(app)
    quick, slow = Inbox(), Inbox()
    listener.subscribe('plant', 'a', on_message=quick, group='g')
    listener.subscribe('plant', '#', on_message=slow, group='g')
    async with running(app) as plant:
        slow.close()
        await plant.publisher.publish('plant', 'a', 1)
        await slow.got(1)
        await quick.got(1)
        assert sum(plant.bus.worklist.left().values()) == 1
        slow.open.set()
        await plant.bus.join()


async def test_one_that_matches_none_is_acked_and_counted(app: web.Application) -> None:
    listener = events.get_listener(app)
    first = listener.subscribe('plant', 'a', group='g')
    async with running(app) as plant:
        first.unsubscribe()  # its queue keeps the binding
        await until(lambda: not plant.bus.worklist.consumers)
        await plant.publisher.publish('plant', 'a', 1)
        await listener.subscribe('plant', 'b', group='g').wait_active(5)
        await plant.bus.join()
        assert listener.consumers['plant', 'g'].unmatched == 1


@pytest.mark.parametrize('concurrency', [1, 5])
async def test_never_more_handlers_at_once_than_concurrency(
    app: web.Application, concurrency: int
) -> None:
    inbox = Inbox()
    policy = events.Policy(concurrency=concurrency)
    events.get_listener(app).subscribe('plant', '#', on_message=inbox, group='g', policy=policy)
    async with running(app) as plant:
        inbox.close()
        await plant.publisher.publish_many('plant', [(f'k{n}', n) for n in range(100)])
        await inbox.got(concurrency)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(inbox.values) == concurrency
        inbox.open.set()
        await plant.bus.join()
    assert inbox.most_at_once == concurrency


async def test_no_more_than_prefetch_is_held(app: web.Application) -> None:
    inbox = Inbox()
    policy = events.Policy(prefetch=3)
    events.get_listener(app).subscribe('plant', '#', on_message=inbox, group='g', policy=policy)
    async with running(app) as plant:
        inbox.close()
        await plant.publisher.publish_many('plant', [('a', n) for n in range(20)])
        await inbox.got(1)
        assert len(plant.bus.routing.queues['g@plant']) == 17
        inbox.open.set()
        await plant.bus.join()


@pytest.mark.parametrize('concurrency', [1, 8])
async def test_order_per_key_holds_over_retries(make_app: MakeApp, concurrency: int) -> None:
    app = make_app()
    chance = random.Random(7)
    seen: dict[str, list[int]] = {}

    async def handle(subscription: object, key: str, message: int) -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        if chance.random() < 0.1 and events.current_message().attempt < 3:
            raise RuntimeError('not now')
        seen.setdefault(key, []).append(message)

    policy = events.Policy(concurrency=concurrency, retry=events.Retry(5, base_s=0))
    events.get_listener(app).subscribe('plant', '#', on_message=handle, group='g', policy=policy)
    async with running(app) as plant:
        await plant.publisher.publish_many('plant', [(f'k{n % 10}', n) for n in range(1000)])
        await plant.bus.join()
    assert {len(values) for values in seen.values()} == {100}
    assert all(values == sorted(values) for values in seen.values())


async def test_order_per_key_holds_while_subscriptions_come_and_go(app: web.Application) -> None:
    listener = events.get_listener(app)
    seen: dict[str, list[int]] = {}

    async def handle(subscription: object, key: str, message: int) -> None:
        await asyncio.sleep(0)
        seen.setdefault(key, []).append(message)

    listener.subscribe('plant', '#', on_message=handle, group='g')
    async with running(app) as plant:
        for start in range(0, 600, 20):
            await plant.publisher.publish_many(
                'plant', [(f'k{n % 3}', n) for n in range(start, start + 20)]
            )
            other = listener.subscribe('plant', 'k1', on_message=Inbox(), group='g')
            for _ in range(start % 7):
                await asyncio.sleep(0)
            other.unsubscribe()
        await plant.bus.join()
    assert sorted(n for values in seen.values() for n in values) == list(range(600))
    assert all(values == sorted(values) for values in seen.values())


async def test_one_that_goes_does_not_make_the_others_handle_it_twice(
    app: web.Application,
) -> None:
    listener = events.get_listener(app)
    stays, goes = Inbox(), Inbox()
    listener.subscribe('plant', '#', on_message=stays, group='g')
    going = listener.subscribe('plant', '#', on_message=goes, group='g')
    async with running(app) as plant:
        goes.close()
        await plant.publisher.publish_many('plant', [('a', n) for n in range(10)])
        await stays.got(10)
        going.unsubscribe()
        goes.open.set()
        await plant.bus.join()
    assert stays.values == list(range(10))


@pytest.mark.parametrize('concurrency', [1, 4])
async def test_acked_before_it_is_at_most_once(app: web.Application, concurrency: int) -> None:
    """It is settled when its handler begins; a connection lost meanwhile brings nothing again."""
    inbox = Inbox()
    policy = events.Policy(concurrency=concurrency, ack='before')
    subscription = events.get_listener(app).subscribe(
        'plant', '#', on_message=inbox, group='g', policy=policy
    )
    async with running(app) as plant:
        inbox.close()
        await plant.publisher.publish('plant', 'a', 1)
        await inbox.got(1)
        plant.bus.drop_connections()
        await subscription.wait_active(5)
        inbox.open.set()
        await plant.publisher.publish('plant', 'a', 2)
        await plant.bus.join()
    assert inbox.values == [1, 2]


@pytest.mark.parametrize('concurrency', [1, 4])
async def test_a_connection_lost_in_mid_handler_disturbs_it_not(
    app: web.Application, concurrency: int
) -> None:
    """It finishes, its late settlement is ignored, and the message comes again, marked."""
    inbox = Inbox()
    policy = events.Policy(concurrency=concurrency)
    subscription = events.get_listener(app).subscribe(
        'plant', '#', on_message=inbox, group='g', policy=policy
    )
    async with running(app) as plant:
        inbox.close()
        await plant.publisher.publish_many('plant', [('a', 1), ('a', 2)])
        await inbox.got(1)
        plant.bus.drop_connections()
        await subscription.wait_active(5)
        assert len(inbox.values) == 1
        inbox.open.set()
        await plant.bus.join()
    assert inbox.finished == [1, 1, 2]
    assert [message.redelivered for message in inbox.messages] == [False, True, True]
    assert inbox.most_at_once == 1


async def test_what_is_finished_is_settled_while_the_next_one_takes_its_time(
    app: web.Application,
) -> None:
    inbox = Inbox()
    events.get_listener(app).subscribe('plant', '#', on_message=inbox, group='g')
    async with running(app) as plant:
        await plant.publisher.publish_many('plant', [('a', n) for n in range(4)])

        async def hold(subscription: object, key: str, message: int) -> None:
            if message == 3:
                await inbox(subscription, key, message)

        plant.listener.subscriptions[0].on_message = hold
        inbox.close()
        await inbox.got(1)
        await until(lambda: sum(plant.bus.worklist.left().values()) == 1)
        inbox.open.set()
        await plant.bus.join()


async def test_stopping_lets_running_handlers_finish_and_hands_back_the_rest(
    make_app: MakeApp,
) -> None:
    """Five run, and publish while they finish; the others are for the next instance."""
    url = '--eventbus-url=memory://drain-group'
    first, second = make_app(url), make_app(url)
    inbox, rest = Inbox(), Inbox()

    async def handle(subscription: object, key: str, message: int) -> None:
        await inbox(subscription, key, message)
        await events.get_publisher(first).publish('results', 'r', message)

    policy = events.Policy(concurrency=5)
    events.get_listener(first).subscribe('plant', '#', on_message=handle, group='g', policy=policy)
    async with running(first) as plant:
        bus = plant.bus
        inbox.close()
        await plant.publisher.publish_many('plant', [(f'k{n}', n) for n in range(50)])
        await inbox.got(5)
        asyncio.get_running_loop().call_later(0.02, inbox.open.set)
    assert inbox.finished == [0, 1, 2, 3, 4]
    assert len(bus.published('results')) == 5
    assert features.get_lifecycle(first).failures == []

    events.get_listener(second).subscribe('plant', '#', on_message=rest, group='g')
    async with running(second):
        await bus.join()
    assert sorted(rest.values) == list(range(5, 50))  # type: ignore[type-var]


async def test_stopping_hands_back_the_rest_while_the_handler_still_runs(
    make_app: MakeApp,
) -> None:
    """Another instance goes on with it at once, in order."""
    url = '--eventbus-url=memory://early-rest'
    first, second = make_app(url), make_app(url)
    inbox, rest = Inbox(), Inbox()
    async with running(second) as other:
        leaving = events.get_listener(first)
        leaving.subscribe('plant', '#', on_message=inbox, group='g')
        async with running(first) as plant:
            inbox.close()
            await plant.publisher.publish_many('plant', [('a', n) for n in range(5)])
            await inbox.got(1)
            other.listener.subscribe('plant', '#', on_message=rest, group='g')
            stopping = asyncio.ensure_future(leaving.drain(first))
            await rest.got(4)
            assert not stopping.done()
            inbox.open.set()
            await stopping
    assert inbox.finished == [0]
    assert rest.finished == [1, 2, 3, 4]


@pytest.mark.parametrize('concurrency', [1, 4])
@pytest.mark.parametrize('stubborn', [False, True])
async def test_over_the_limit_a_handler_is_cancelled_and_its_message_not_processed(
    make_app: MakeApp, concurrency: int, stubborn: bool
) -> None:
    """Neither acked nor dead-lettered nor tried again, whatever it makes of the cancellation."""
    url = f'--eventbus-url=memory://cancelled-{concurrency}-{stubborn}'
    app = make_app(url, '--shutdown-timeout-s=0.5')
    begun = []

    async def handle(subscription: object, key: str, message: int) -> None:
        begun.append(message)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if stubborn:
                raise RuntimeError('a cancellation taken for something else') from None
            raise

    policy = events.Policy(concurrency=concurrency, retry=events.Retry(3, base_s=0))
    events.get_listener(app).subscribe('plant', '#', on_message=handle, group='g', policy=policy)
    async with running(app) as plant:
        bus = plant.bus
        await plant.publisher.publish('plant', 'a', 1)
        await until(lambda: begun)
    assert begun == [1]
    assert [failure.hook for failure in features.get_lifecycle(app).failures] == ['drain']
    assert bus.dead_letters('plant') == []
    assert len(bus.routing.queues['g@plant']) == 1


async def test_a_handler_of_an_unsubscribed_group_is_waited_for_at_the_end(
    app: web.Application,
) -> None:
    inbox = Inbox()
    subscription = events.get_listener(app).subscribe('plant', '#', on_message=inbox, group='g')
    async with running(app) as plant:
        inbox.close()
        await plant.publisher.publish('plant', 'a', 1)
        await inbox.got(1)
        subscription.unsubscribe()
        asyncio.get_running_loop().call_later(0.02, inbox.open.set)
    assert inbox.finished == [1]


@pytest.mark.parametrize('fault', ['down', 'half_open'])
async def test_stopping_while_the_broker_is_away_takes_no_time(
    make_app: MakeApp, fault: str
) -> None:
    app = make_app(f'--eventbus-url=memory://stop-{fault}')
    events.get_listener(app).subscribe('plant', '#', group='g')
    events.get_listener(app).subscribe('plant', '#')
    loop = asyncio.get_running_loop()
    async with running(app) as plant:
        getattr(plant.bus, fault)()
        began = loop.time()
    assert loop.time() - began < 1
    plant.bus.up()


async def test_stopping_while_connecting_leaves_nothing(make_app: MakeApp) -> None:
    app = make_app('--eventbus-url=memory://stop-connecting')
    events.get_listener(app).subscribe('plant', '#')
    from service_scaffold.testing import memory_bus

    memory_bus(app).half_open()
    async with running(app, active_s=0):
        await asyncio.sleep(0)
    memory_bus(app).up()


async def test_started_again_after_a_stop_it_consumes_again(app: web.Application) -> None:
    inbox = Inbox()
    events.get_listener(app).subscribe('plant', '#', on_message=inbox, group='g')
    lifecycle = features.get_lifecycle(app)
    for number in range(3):
        await lifecycle.start()
        await events.get_listener(app).subscriptions[0].wait_active(5)
        await events.get_publisher(app).publish('plant', 'a', number)
        await inbox.got(number + 1)
        await lifecycle.shutdown()
    assert inbox.finished == [0, 1, 2]


def test_the_application_without_subscriptions_has_no_consumers() -> None:
    app = service.create_app('plant', raw_args=[])
    events.setup(app)
    events.setup(app)
    assert events.get_listener(app).consumers == {}


async def test_a_dead_letter_is_stored_though_subscription_and_connection_have_gone(
    make_app: MakeApp,
) -> None:
    clock = ManualClock()
    app = make_app(clock=clock)
    inbox = Inbox()
    policy = events.Policy(retry=events.Retry(attempts=1))
    subscription = events.get_listener(app).subscribe(
        'plant', '#', on_message=inbox, group='g', policy=policy
    )
    keep = events.get_listener(app).subscribe('other', '#')
    async with running(app) as plant:
        inbox.errors = [RuntimeError('broken')]
        inbox.close()
        await plant.publisher.publish('plant', 'a', 1)
        await inbox.got(1)
        subscription.unsubscribe()
        plant.bus.drop_connections()
        await clock.advance(1)
        await keep.wait_active(5)
        inbox.open.set()
        await until(lambda: plant.bus.dead_letters('plant'))


async def test_what_one_leaves_unhandled_is_not_settled_for_a_later_one_that_matches(
    app: web.Application,
) -> None:
    """Jobs that were given to one subscription only, which goes after another has come."""
    listener = events.get_listener(app)
    policy = events.Policy(concurrency=2)
    first, later = Inbox(), Inbox()
    going = listener.subscribe('plant', '#', on_message=first, group='g', policy=policy)
    async with running(app) as plant:
        first.close()
        await plant.publisher.publish_many('plant', [('a', n) for n in range(10)])
        await first.got(1)
        await listener.subscribe('plant', '*', on_message=later, group='g').wait_active(5)
        going.unsubscribe()
        first.open.set()
        await plant.bus.join()
    assert first.finished == [0]
    assert later.values == list(range(1, 10))
