"""A broker that goes away and comes back."""

from __future__ import annotations

import asyncio

from service_scaffold import events
from service_scaffold.testing.conformance.broker import BrokerControl
from service_scaffold.testing.conformance.case import FAULTS, Case, needs
from service_scaffold.testing.conformance.inbox import Gate, Inbox, eventually
from service_scaffold.testing.conformance.instances import Instance, Instances

BACK_S = 30.0


class Outages(Case):
    """Subscriptions hold."""

    @needs(FAULTS)
    async def test_subscriptions_are_restored(
        self, instances: Instances, broker: BrokerControl, exchange: str
    ) -> None:
        """Views and groups, after each of three outages; the tasks do not grow."""
        instance = await instances.start()
        view, group = Inbox(), Inbox()
        made = [
            await instance.subscribe(exchange, 'tank.*', view),
            await instance.subscribe(exchange, '#', group, group='g'),
        ]
        await instance.publish(exchange, 'tank.1', 0, key='k')
        await group.next()
        tasks = len(asyncio.all_tasks())

        for number in range(1, 4):
            await _outage(instance, broker, *made)
            await instance.publish(exchange, 'tank.1', number, key='k')
            await group.all_of([number])
            await view.all_of([number])

        assert len(asyncio.all_tasks()) <= tasks + 1

    @needs(FAULTS)
    async def test_what_was_confirmed_survives(
        self, instances: Instances, broker: BrokerControl, exchange: str
    ) -> None:
        """A steady flow over two outages: all that was confirmed reaches the group."""
        instance = await instances.start()
        inbox = Inbox()
        await instance.subscribe(exchange, '#', inbox, group='g')
        confirmed: list[int] = []
        enough = asyncio.Event()

        async def flow(first: int) -> None:
            for number in range(first, first + 100_000):
                if enough.is_set():
                    return
                try:
                    await instance.publish(exchange, f'tank.{number}', number)
                except events.PublishError:
                    await asyncio.sleep(0.05)
                else:
                    confirmed.append(number)

        async with asyncio.TaskGroup() as tasks:
            for first in range(5):
                tasks.create_task(flow(first * 100_000))
            for _ in range(2):
                await inbox.take(50)
                broker.stop()
                broker.start()
            await inbox.take(50, BACK_S)
            enough.set()

        await inbox.all_of(confirmed, BACK_S)

    @needs(FAULTS)
    async def test_a_running_handler_outlives_its_connection(
        self, instances: Instances, broker: BrokerControl, exchange: str
    ) -> None:
        """It is not cancelled; what it could not settle may come again, and nothing is lost."""
        instance = await instances.start()
        gate = Gate()
        made = await instance.subscribe(exchange, '#', gate, group='g')
        await instance.publish(exchange, 'tank', 1, key='k')
        await gate.next()

        await _outage(instance, broker, made)
        gate.open()
        await instance.publish(exchange, 'tank', 2, key='k')

        await gate.finished.all_of([1, 2], BACK_S)

    @needs(FAULTS)
    async def test_health_tells_of_the_outage(
        self, instances: Instances, broker: BrokerControl, exchange: str
    ) -> None:
        """Not ready while the bus is away, with the reason; ready again after it."""
        instance = await instances.start()
        made = await instance.subscribe(exchange, '#', Inbox(), group='g')
        assert instance.listener.health().ready

        broker.stop()
        await eventually(lambda: not made.active, BACK_S)
        health = instance.listener.health()
        assert (health.ok, health.ready) == (False, False)

        broker.start()
        await made.wait_active(BACK_S)
        assert instance.listener.health().ok

    @needs(FAULTS)
    async def test_stopping_during_an_outage_takes_no_longer_than_allowed(
        self, instances: Instances, broker: BrokerControl, exchange: str
    ) -> None:
        """Refused, and silent."""
        for group, fault in (('g1', broker.stop), ('g2', broker.half_open)):
            instance = await instances.start(shutdown_timeout_s=2)
            inbox = Inbox()
            await instance.subscribe(exchange, '#', inbox, group=group)
            await instance.subscribe(exchange, '#', Inbox())
            await instance.publish(exchange, 'tank', 1)
            await inbox.next()
            fault()

            async with asyncio.timeout(4):
                await instance.stop()

            broker.start()


async def _outage(
    instance: Instance, broker: BrokerControl, *subscriptions: events.EventSubscription
) -> None:
    """Stop the broker until the listener has noticed, and wait until all are active again."""
    broker.stop()
    await eventually(lambda: not instance.listener.health().ok, BACK_S)
    broker.start()
    for subscription in subscriptions:
        await subscription.wait_active(BACK_S)
