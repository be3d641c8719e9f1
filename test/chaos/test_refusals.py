"""Brokers that are there and refuse: credentials, dead letters, messages given up."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator

import pytest

from service_scaffold import events, service
from service_scaffold.testing import running
from service_scaffold.testing.conformance import Inbox, Instances, RawInbox
from service_scaffold.testing.conformance.inbox import eventually
from test.brokers.kafka import Kafka
from test.brokers.mosquitto import Mosquitto
from test.brokers.process import Broker
from test.brokers.rabbitmq import RabbitMQ
from test.brokers.required import require_broker

PASSWORD = 'quite-a-secret-91'


@pytest.fixture(scope='module', params=(RabbitMQ, Kafka, Mosquitto), ids=lambda kind: kind.name)
def locked(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A broker that knows one user only."""
    require_broker(request.param)
    with request.param(user='al', password='right') as broker:
        yield broker


async def test_bad_credentials_are_told_and_not_shown(locked: Broker, unique, caplog):
    """The publisher raises at once, the listener goes on trying, and nobody sees the password."""
    url = f'{locked.scheme}://al:{PASSWORD}@127.0.0.1:{locked.port}'
    instances = Instances(url, f's{unique}')
    app = instances.make(publish_timeout_s=5)
    made = events.get_listener(app).subscribe(unique, '#', group='g')
    service.furnish(app, '')
    texts = []
    with caplog.at_level(logging.DEBUG):
        async with running(app, active_s=0) as started:
            began = time.monotonic()
            with pytest.raises(events.PublishError) as caught:
                await started.publisher.publish(unique, 'tank', 1)
            assert time.monotonic() - began < 3
            assert isinstance(caught.value.__cause__, events.AccessRefused)
            assert caught.value.maybe_sent is False

            await eventually(lambda: 'refuses' in str(started.listener.health().detail))
            health = started.listener.health()
            assert (health.ready, made.state) == (False, 'waiting')
            for path in ('status', 'ready', 'metrics'):
                response = await started.client.get(f'/_service/{path}')
                texts.append(await response.text())
    texts += [caplog.text, str(caught.value), repr(caught.value.__cause__)]
    assert [text for text in texts if PASSWORD in text] == []


@pytest.mark.parametrize('broker', [RabbitMQ], indirect=True, ids=['rabbitmq'])
async def test_a_dead_letter_store_that_refuses_loses_nothing(broker, instances, unique):
    """Nothing is settled, the state says why, and it goes on by itself when the store is back."""
    instance = await instances.start()
    letters, inbox = RawInbox(), Inbox()

    async def handle(subscription: events.EventSubscription, key: str, message: int) -> None:
        if message < 10:
            raise events.Reject('as the test wants')
        inbox.put(key, message)

    made = await instance.subscribe(unique, '#', handle, group='g')
    await instance.subscribe(f'{unique}.dlq', '#', letters)
    await instance.publish(unique, 'tank', 1, key='k')
    await eventually(lambda: made.stats.dead_lettered == 1)
    full = '{"max-length": 5, "overflow": "reject-publish"}'
    await _control(broker, 'set_policy', 'full', rf'^{unique}\.dlq$', full, '--apply-to', 'queues')

    for number in range(2, 11):
        await instance.publish(unique, 'tank', number, key='k')
    await eventually(lambda: made.state == 'dlq_unavailable')
    assert made.last_error is not None
    assert made.stats.dead_lettered < 9
    assert inbox.values == []

    # Not by taking the limit away: RabbitMQ then goes on refusing on the channels it has refused.
    await _control(broker, 'purge_queue', f'{unique}.dlq')
    assert (await inbox.next(30)).value == 10
    await letters.all_of([b'%d' % number for number in range(1, 10)])
    assert (made.state, made.stats.dead_lettered) == ('active', 9)
    await _control(broker, 'clear_policy', 'full')


@pytest.mark.parametrize('broker', [Kafka], indirect=True, ids=['kafka'])
async def test_what_was_given_up_is_not_sent_later(broker, instances, unique):
    """A publish that failed against a dead broker is not there when the broker is back."""
    instance = await instances.start(publish_timeout_s=2)
    await instance.publish(unique, 'tank', 'before', key='k')
    await asyncio.to_thread(broker.kill)
    with pytest.raises(events.PublishError):
        await instance.publish(unique, 'tank', 'given up', key='k')

    began = time.monotonic()
    await instance.stop()
    assert time.monotonic() - began < 2

    await asyncio.to_thread(broker.start)
    other, inbox = await instances.start(), Inbox()
    await other.publish(unique, 'tank', 'after', key='k')
    policy = events.Policy(start='first')
    await other.subscribe(unique, '#', inbox, group='g', policy=policy)
    await inbox.take(2)
    assert inbox.values == ['before', 'after']


async def _control(rabbit: RabbitMQ, *arguments: str) -> str:
    return await asyncio.to_thread(rabbit.control, *arguments)
