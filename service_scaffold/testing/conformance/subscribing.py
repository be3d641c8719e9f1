"""When and how one may subscribe."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold import events
from service_scaffold.testing.conformance.broker import BrokerControl
from service_scaffold.testing.conformance.case import FAULTS, Case, needs
from service_scaffold.testing.conformance.inbox import WAIT_S, Gate, Inbox, eventually
from service_scaffold.testing.conformance.instances import Instances
from service_scaffold.transports.base import LIVE_BUFFER

CYCLES = 200


class Subscribing(Case):
    """Subscriptions come and go at any time."""

    @needs(FAULTS)
    async def test_one_may_subscribe_at_any_time(
        self, instances: Instances, broker: BrokerControl, exchange: str
    ) -> None:
        """Before the start, while the broker is away, and while connected."""
        inboxes = {when: Inbox() for when in ('before', 'down', 'after')}
        app = instances.make()
        before = events.get_listener(app).subscribe(
            exchange, 'before', on_message=inboxes['before']
        )
        broker.stop()
        instance = await instances.start(app=app)
        down = instance.listener.subscribe(exchange, 'down', on_message=inboxes['down'])
        assert not before.active

        broker.start()
        await before.wait_active(WAIT_S)
        await down.wait_active(WAIT_S)
        await instance.subscribe(exchange, 'after', inboxes['after'])
        for when in inboxes:
            await instance.publish(exchange, when, when)

        for when, inbox in inboxes.items():
            assert (await inbox.next()).value == when
        assert [len(inbox.received) for inbox in inboxes.values()] == [1, 1, 1]

    async def test_nothing_comes_after_unsubscribe(
        self, instances: Instances, exchange: str
    ) -> None:
        """The others of the same exchange go on."""
        instance = await instances.start()
        gone, stays = Inbox(), Inbox()
        subscription = await instance.subscribe(exchange, 'tank.*', gone)
        await instance.subscribe(exchange, '#', stays)
        await instance.publish(exchange, 'tank.level', 1, key='k')
        await gone.next()

        subscription.unsubscribe()
        await instance.publish(exchange, 'tank.level', 2, key='k')
        await stays.take(2)

        assert subscription.state == 'closed'
        assert gone.values == [1]

    async def test_the_handler_can_be_swapped(self, instances: Instances, exchange: str) -> None:
        """The new one is used from the next message on."""
        instance = await instances.start()
        first, second = Inbox(), Inbox()
        subscription = await instance.subscribe(exchange, '#', first)
        await instance.publish(exchange, 'tank', 1)
        await first.next()

        subscription.on_message = second
        await instance.publish(exchange, 'tank', 2)

        assert (await second.next()).value == 2
        assert first.values == [1]

    async def test_every_live_view_sees_everything(
        self, instances: Instances, exchange: str
    ) -> None:
        """Ten views in two instances, two hundred messages: each view has each message once."""
        pair = [await instances.start(), await instances.start()]
        views = [Inbox() for _ in range(10)]
        for number, view in enumerate(views):
            await pair[number % 2].subscribe(exchange, '#', view)

        items = [('tank', number, 'k') for number in range(200)]
        await pair[0].publisher.publish_many(exchange, items)

        for view in views:
            await view.take(200)
            assert view.values == list(range(200))

    async def test_exchanges_do_not_mix(self, instances: Instances, exchange: str) -> None:
        """A message goes to the subscribers of its exchange only."""
        instance = await instances.start()
        names = [exchange, f'{exchange}-a', f'{exchange}.b']
        views, groups = [Inbox() for _ in names], [Inbox() for _ in names]
        for name, view, group in zip(names, views, groups, strict=True):
            await instance.subscribe(name, '#', view)
            await instance.subscribe(name, '#', group, group='g')

        for name in names:
            items = [('tank', f'{name} {number}', 'k') for number in range(20)]
            await instance.publisher.publish_many(name, items)

        for name, view, group in zip(names, views, groups, strict=True):
            expected = [f'{name} {number}' for number in range(20)]
            await view.take(20)
            await group.take(20)
            assert (view.values, group.values) == (expected, expected)

    async def test_a_slow_view_loses_the_oldest_and_disturbs_nobody(
        self, instances: Instances, exchange: str
    ) -> None:
        """Its buffer holds so many; what it loses is counted, and the other view sees all."""
        instance = await instances.start()
        slow, quick = Gate(), Inbox()
        subscription = await instance.subscribe(exchange, '#', slow)
        await instance.subscribe(exchange, '#', quick)
        total = LIVE_BUFFER + 200
        for start in range(0, total, 200):
            items = [('tank', number, 'k') for number in range(start, start + 200)]
            await instance.publisher.publish_many(exchange, items)
            await quick.take(200)

        slow.open()
        await slow.until(total - 1)

        assert quick.values == list(range(total))
        assert subscription.stats.dropped == total - LIVE_BUFFER - 1
        assert slow.values == [0, *range(total - LIVE_BUFFER, total)]

    async def test_an_error_in_a_view_is_counted_and_goes_no_further(
        self, instances: Instances, exchange: str
    ) -> None:
        """One attempt; the next message comes."""
        instance = await instances.start()
        inbox = Inbox()

        async def fail(subscription: events.EventSubscription, key: str, message: object) -> None:
            inbox.put(key, message)
            raise RuntimeError('as the test wants')

        subscription = await instance.subscribe(exchange, '#', fail)
        await instance.publish(exchange, 'tank', 1, key='k')
        await instance.publish(exchange, 'tank', 2, key='k')
        await inbox.take(2)

        assert inbox.values == [1, 2]
        assert subscription.stats.retried == 0

    async def test_subscribing_and_unsubscribing_leaves_no_tasks(
        self, instances: Instances, exchange: str
    ) -> None:
        """Views and groups, many times; at the end there are as many tasks as before."""
        instance = await instances.start()
        inbox = Inbox()
        await instance.subscribe(exchange, 'stays', inbox)
        await instance.publish(exchange, 'stays', 0)
        await inbox.next()
        before = len(asyncio.all_tasks())

        for number in range(CYCLES):
            group = f'g{number % 3}' if number % 2 else None
            subscription = instance.listener.subscribe(exchange, f'w{number}', group=group)
            if number % 50 < 2:
                await subscription.wait_active(WAIT_S)
            subscription.unsubscribe()
        await instance.publish(exchange, 'stays', 1)
        await inbox.next()

        await eventually(lambda: len(asyncio.all_tasks()) <= before)
        assert len(instance.listener.subscriptions) == 1

    @needs('checks_exchange_type')
    async def test_one_bad_subscription_leaves_the_others_alone(
        self, instances: Instances, exchange: str
    ) -> None:
        """An exchange of another type: that one fails, and a publisher is told, too."""
        instance = await instances.start()
        inbox = Inbox()
        await instance.subscribe(exchange, '#', Inbox())
        other = await instances.start()
        bad = other.listener.subscribe(exchange, '#', 'fanout')
        await other.subscribe(f'{exchange}.other', '#', inbox)

        await other.publish(f'{exchange}.other', 'tank', 1)
        with pytest.raises(events.PublishError):
            await other.publisher.publish(exchange, 'tank', 1, 'fanout')

        assert (await inbox.next()).value == 1
        assert (bad.state, type(bad.last_error)) == ('failed', events.BindingRefused)
