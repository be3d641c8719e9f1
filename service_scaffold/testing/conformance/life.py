"""Starting and stopping, more than once."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold import events
from service_scaffold.testing.conformance.case import Case
from service_scaffold.testing.conformance.inbox import Inbox
from service_scaffold.testing.conformance.instances import Instances


class Life(Case):
    """Listener and publisher as features."""

    async def test_stopping_twice_and_starting_again(
        self, instances: Instances, exchange: str
    ) -> None:
        """A stop is idempotent, and subscriptions are still there after the next start."""
        instance = await instances.start()
        other = await instances.start()
        view, group = Inbox(), Inbox()
        made = [
            await instance.subscribe(exchange, '#', view),
            await instance.subscribe(exchange, '#', group, group='g'),
        ]
        listener, publisher = instance.listener, instance.publisher

        for _ in range(2):
            await listener.drain(instance.app)
            await listener.shutdown(instance.app)
            await publisher.shutdown(instance.app)
        assert [listener.running, listener.connected, publisher.connected] == [False] * 3
        with pytest.raises(events.PublishError):
            await instance.publish(exchange, 'tank', 0)

        await publisher.startup(instance.app)
        await listener.startup(instance.app)
        for subscription in made:
            await subscription.wait_active()
        await other.publish(exchange, 'tank', 1, key='k')
        await instance.publish(exchange, 'tank', 2, key='k')
        await view.take(2)
        await group.take(2)
        assert (view.values, group.values) == ([1, 2], [1, 2])

    async def test_nothing_is_taken_before_it_is_needed(
        self, instances: Instances, exchange: str
    ) -> None:
        """No connection before the first subscription or publish, and ready without one."""
        instance = await instances.start()
        assert [instance.listener.connected, instance.publisher.connected] == [False] * 2
        assert instance.listener.health().ready

        await instance.subscribe(exchange, '#', Inbox())
        assert instance.listener.connected
        assert not instance.publisher.connected

    async def test_running_handlers_finish_when_the_instance_stops(
        self, instances: Instances, exchange: str
    ) -> None:
        """They end, may publish, and are settled; what had not begun comes again."""
        other = await instances.start()
        worker = await instances.start('worker')
        begun, results, rest = Inbox(), Inbox(), Inbox()
        leave = asyncio.Event()
        await other.subscribe(f'{exchange}.out', '#', results)

        async def work(subscription: events.EventSubscription, key: str, message: int) -> None:
            begun.put(key, message)
            await leave.wait()
            await worker.publish(f'{exchange}.out', key, message)

        await worker.subscribe(exchange, '#', work, group='g')
        await other.publisher.publish_many(exchange, [('tank', n, 'k') for n in range(5)])
        await begun.next()
        stopping = asyncio.ensure_future(worker.stop())
        with pytest.raises(TimeoutError):
            await begun.next(0.3)  # it takes in nothing more, and waits
        leave.set()
        await stopping
        assert (await results.next()).value == 0

        again = await instances.start('worker')
        await again.subscribe(exchange, '#', rest, group='g')
        await rest.take(4)
        assert rest.values == [1, 2, 3, 4]
        assert begun.values == [0]
