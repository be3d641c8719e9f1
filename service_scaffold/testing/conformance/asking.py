"""Requests and their answers."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold import errors, events
from service_scaffold.testing.conformance.broker import BrokerControl
from service_scaffold.testing.conformance.case import FAULTS, Case, needs
from service_scaffold.testing.conformance.inbox import Gate, Inbox
from service_scaffold.testing.conformance.instances import Instances


async def double(subscription: events.EventSubscription, key: str, message: int) -> int | None:
    """Answer requests; fail for negative numbers, and answer 0 with nothing."""
    if message < 0:
        raise events.Reject(f'{message} is negative')
    return 2 * message or None


class Asking(Case):
    """Request and reply over the same paths as events."""

    async def test_a_request_is_answered_with_what_the_handler_returns(
        self, instances: Instances, exchange: str
    ) -> None:
        """By another instance; None is an answer, too; many at once find their own."""
        responder, asker = await instances.start(), await instances.start()
        await responder.subscribe(exchange, 'double', double, group='g', reply=True)

        one = await asker.publisher.request(exchange, 'double', 21, timeout_s=10)
        none = await asker.publisher.request(exchange, 'double', 0, timeout_s=10)
        many = await asyncio.gather(
            *(asker.publisher.request(exchange, 'double', n, timeout_s=10) for n in range(1, 30))
        )

        assert (one, none) == (42, None)
        assert many == [2 * n for n in range(1, 30)]

    async def test_a_live_view_can_answer(self, instances: Instances, exchange: str) -> None:
        """First answer wins, the second one is counted."""
        instance = await instances.start()
        await instance.subscribe(exchange, 'double', double, reply=True)

        assert await instance.publisher.request(exchange, 'double', 4, timeout_s=10) == 8

    async def test_an_error_of_the_responder_reaches_the_asker(
        self, instances: Instances, exchange: str
    ) -> None:
        """Type and message, no traceback."""
        instance = await instances.start()
        await instance.subscribe(exchange, 'double', double, group='g', reply=True)

        with pytest.raises(events.RemoteError) as caught:
            await instance.publisher.request(exchange, 'double', -1, timeout_s=10)

        assert (caught.value.type, caught.value.message) == ('Reject', '-1 is negative')

    async def test_only_a_replying_subscription_answers(
        self, instances: Instances, exchange: str
    ) -> None:
        """Without `reply=True` the request is handled, and times out."""
        instance = await instances.start()
        inbox = Inbox()
        await instance.subscribe(exchange, 'double', inbox, group='g')

        with pytest.raises(TimeoutError, match=exchange):
            await instance.publisher.request(exchange, 'double', 1, timeout_s=1.0)

        assert (await inbox.next()).value == 1

    async def test_a_default_replaces_a_missing_answer(
        self, instances: Instances, exchange: str
    ) -> None:
        """For a time-out, and for nobody there."""
        instance = await instances.start()

        answer = await instance.publisher.request(
            exchange, 'double', 1, timeout_s=1.0, default='nobody'
        )

        assert answer == 'nobody'

    @needs('knows_responders')
    async def test_nobody_there_is_said_at_once(self, instances: Instances, exchange: str) -> None:
        """Long before the time is over."""
        instance = await instances.start()

        async with asyncio.timeout(5):
            with pytest.raises(events.NoResponder):
                await instance.publisher.request(exchange, 'double', 1, timeout_s=30)

    async def test_a_late_answer_is_dropped_and_counted(
        self, instances: Instances, exchange: str
    ) -> None:
        """The asker has given up; the next request gets its own answer."""
        responder, asker = await instances.start(), await instances.start()
        gate = Gate()
        await responder.subscribe(exchange, 'double', gate, group='g', reply=True)
        late = asyncio.ensure_future(
            asker.publisher.request(exchange, 'double', 'late', timeout_s=1.5)
        )
        await gate.next()
        with pytest.raises(TimeoutError):
            await late

        gate.open()
        answer = await asker.publisher.request(exchange, 'double', 'next', timeout_s=10)

        assert answer == 'next'
        assert asker.publisher.stats.late_replies == 1

    async def test_a_request_is_not_begun_after_its_deadline(
        self, instances: Instances, exchange: str
    ) -> None:
        """It waited behind another one for too long: a dead letter, reason `expired`."""
        responder, asker = await instances.start(), await instances.start()
        gate, letters = Gate(), Inbox()
        await responder.subscribe(exchange, 'double', gate, group='g', reply=True)
        await asker.subscribe(f'{exchange}.dlq', '#', letters)
        await asker.publish(exchange, 'double', 'holds up')
        await gate.next()

        with pytest.raises(TimeoutError):
            await asker.publisher.request(exchange, 'double', 'too late', timeout_s=0.5)
        gate.open()
        letter = await letters.next()

        assert letter.value == 'too late'
        assert letter.message.headers['x-death-reason'] == 'expired'
        assert gate.values == ['holds up']

    @needs(FAULTS)
    async def test_a_pending_request_fails_when_its_connection_dies(
        self, instances: Instances, broker: BrokerControl, exchange: str
    ) -> None:
        """At once, and not at its own time limit."""
        instance = await instances.start()
        gate = Gate()
        await instance.subscribe(exchange, 'double', gate, group='g', reply=True)
        asked = asyncio.ensure_future(
            instance.publisher.request(exchange, 'double', 1, timeout_s=60)
        )
        await gate.next()

        broker.stop()

        async with asyncio.timeout(10):
            with pytest.raises(ConnectionError) as caught:
                await asked
        assert isinstance(caught.value, errors.TransportError)
        gate.open()
