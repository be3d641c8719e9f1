"""Publishing: confirmed, or an error in time."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web

from service_scaffold import events, features
from service_scaffold.testing.conformance.broker import BrokerControl
from service_scaffold.testing.conformance.case import FAULTS, Case, needs
from service_scaffold.testing.conformance.inbox import Inbox
from service_scaffold.testing.conformance.instances import PUBLISH_TIMEOUT_S, Instances


class Farewell(features.ServiceFeature):
    """Publishes in each of its stop hooks."""

    exchange = ''

    async def startup(self, app: web.Application) -> None:
        """Nothing to start."""

    async def before_shutdown(self, app: web.Application) -> None:
        """Publish while everything is open."""
        await events.get_publisher(app).publish(self.exchange, 'bye', 'before', key='k')

    async def shutdown(self, app: web.Application) -> None:
        """Publish while the publisher is open."""
        await events.get_publisher(app).publish(self.exchange, 'bye', 'last', key='k')


class Publishing(Case):
    """A confirm means the broker has it."""

    async def test_publishing_in_parallel_loses_nothing(
        self, instances: Instances, exchange: str
    ) -> None:
        """Five hundred at once; the publisher stops right after."""
        reader, writer = await instances.start(), await instances.start()
        inbox = Inbox()
        await reader.subscribe(exchange, '#', inbox, group='g')

        async with asyncio.TaskGroup() as tasks:
            for number in range(500):
                tasks.create_task(writer.publish(exchange, f'tank.{number}', number))
        await writer.stop()

        await inbox.all_of(range(500))

    async def test_publish_many_keeps_the_order_per_key(
        self, instances: Instances, exchange: str
    ) -> None:
        """As the items stand; also over two calls."""
        instance = await instances.start()
        inbox = Inbox()
        await instance.subscribe(exchange, '#', inbox)
        items = [('tank', [n % 7, n], f'k{n % 7}') for n in range(700)]

        await instance.publisher.publish_many(exchange, items[:350])
        await instance.publisher.publish_many(exchange, iter(items[350:]))

        await inbox.take(700)
        for key in range(7):
            numbers = [number for k, number in inbox.values if k == key]
            assert numbers == list(range(key, 700, 7))

    async def test_a_handler_can_publish(self, instances: Instances, exchange: str) -> None:
        """To another exchange, confirmed before the message itself is settled."""
        instance = await instances.start()
        inbox = Inbox()

        async def forward(subscription: events.EventSubscription, key: str, message: int) -> None:
            await instance.publish(f'{exchange}.out', key, message * 2)

        await instance.subscribe(f'{exchange}.out', '#', inbox)
        await instance.subscribe(exchange, '#', forward, group='g')
        items = [('tank', number, 'k') for number in range(20)]
        await instance.publisher.publish_many(exchange, items)

        await inbox.take(20)
        assert inbox.values == [2 * number for number in range(20)]

    async def test_shutdown_hooks_can_publish(self, instances: Instances, exchange: str) -> None:
        """Publishers close after the features that were made later."""
        reader = await instances.start()
        inbox = Inbox()
        await reader.subscribe(exchange, '#', inbox)
        app = instances.make()
        Farewell(app).exchange = exchange
        writer = await instances.start(app=app)

        await writer.stop()

        assert [one.value for one in await inbox.take(2)] == ['before', 'last']

    async def test_what_cannot_be_published_is_said_before_anything_is_sent(
        self, instances: Instances, exchange: str
    ) -> None:
        """Names that no broker takes, values that JSON cannot express."""
        instance = await instances.start()
        publish = instance.publisher.publish

        for routing in ('tank.*', 'tank.#', 'a/b', 'a+b'):
            with pytest.raises(ValueError, match='rout'):
                await publish(exchange, routing, 1)
        with pytest.raises(ValueError, match='exchange'):
            await publish('no spaces', 'tank', 1)
        with pytest.raises(events.EncodeError):
            await publish(exchange, 'tank', object())
        with pytest.raises(ValueError, match='x-number'):
            await publish(exchange, 'tank', 1, headers={'x-number': 1})  # type: ignore[dict-item]

    @needs(FAULTS)
    async def test_publishing_to_a_dead_broker_raises_in_time(
        self, instances: Instances, broker: BrokerControl, exchange: str
    ) -> None:
        """And the very next call after it is back succeeds."""
        instance = await instances.start()
        inbox = Inbox()
        made = await instance.subscribe(exchange, '#', inbox, group='g')
        await instance.publish(exchange, 'tank', 'before')
        await inbox.next()
        broker.stop()

        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(events.PublishError) as caught:
                await instance.publish(exchange, 'tank', 'lost')
            assert time.monotonic() - began < PUBLISH_TIMEOUT_S + 0.5
            assert caught.value.maybe_sent is (caught.value.phase != 'connect')
        with pytest.raises(events.PublishError) as caught:
            await instance.publisher.publish_many(exchange, [('tank', n) for n in range(3)])
        assert caught.value.failed == (0, 1, 2)

        broker.start()
        await instance.publish(exchange, 'tank', 'after')
        await made.wait_active(30)
        await inbox.all_of(['before', 'after'])

    @needs(FAULTS)
    async def test_many_publishes_to_a_dead_broker_fail_within_the_same_time(
        self, instances: Instances, broker: BrokerControl, exchange: str
    ) -> None:
        """A hundred at once; nothing is queued."""
        instance = await instances.start()
        broker.stop()

        began = time.monotonic()
        results = await asyncio.gather(
            *(instance.publish(exchange, 'tank', number) for number in range(100)),
            return_exceptions=True,
        )

        assert time.monotonic() - began < PUBLISH_TIMEOUT_S + 1
        assert {type(result) for result in results} == {events.PublishError}

    @needs(FAULTS)
    async def test_publishing_into_a_silent_broker_raises_in_time(
        self, instances: Instances, broker: BrokerControl, exchange: str
    ) -> None:
        """No confirm: the caller is told that it may have been sent."""
        instance = await instances.start()
        inbox = Inbox()
        await instance.subscribe(exchange, '#', inbox, group='g')
        await instance.publish(exchange, 'tank', 'before')
        await inbox.next()
        broker.half_open()

        began = time.monotonic()
        with pytest.raises(events.PublishError) as caught:
            await instance.publish(exchange, 'tank', 'silent')

        assert time.monotonic() - began < PUBLISH_TIMEOUT_S + 0.5
        assert caught.value.maybe_sent is True

    async def test_a_limit_of_its_own_for_one_call(
        self, instances: Instances, exchange: str
    ) -> None:
        """`timeout_s` of the call wins, and is plenty when the broker answers."""
        instance = await instances.start()
        inbox = Inbox()
        await instance.subscribe(exchange, '#', inbox)

        await instance.publish(exchange, 'tank', 1, timeout_s=10)
        await instance.publisher.publish_many(exchange, [('tank', 2)], timeout_s=10)
        await instance.publisher.publish_many(exchange, [])

        await inbox.all_of([1, 2])

    async def test_a_limit_that_is_too_short_harms_nobody_else(
        self, instances: Instances, exchange: str
    ) -> None:
        """The others in flight on the connection are confirmed, and the connection stays."""
        instance = await instances.start()
        inbox = Inbox()
        await instance.subscribe(exchange, 'tank.#', inbox)
        publisher = instance.publisher
        await publisher.publish(exchange, 'tank', 'first')

        patient = [publisher.publish(exchange, f'tank.{n}', n) for n in range(100)]
        hasty = [publisher.publish(exchange, 'hasty', n, timeout_s=n / 1000) for n in range(20)]
        hasty += [publisher.publish(f'{exchange}.{n}', 'a', n, timeout_s=0.0) for n in range(10)]
        failing = asyncio.gather(*hasty, return_exceptions=True)
        await asyncio.gather(*patient)

        failures = [error for error in await failing if error is not None]
        assert {type(error) for error in failures} == {events.PublishError}
        await inbox.all_of(['first', *range(100)])
        await publisher.publish(exchange, 'tank', 'last')
        assert publisher.reconnects == 0
