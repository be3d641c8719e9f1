"""Packets that vanish without a word."""

from __future__ import annotations

import time

import pytest

from service_scaffold import events
from service_scaffold.testing.conformance import Gate, Inbox, Instances
from service_scaffold.testing.conformance.inbox import eventually
from service_scaffold.testing.conformance.instances import PUBLISH_TIMEOUT_S
from test.brokers.process import Broker
from test.brokers.rabbitmq import RabbitMQ

HEARTBEAT_S = 2
# RabbitMQ: 3 * (heartbeat + 1); MQTT: twice the keep-alive; Kafka: the session's time limit.
NOTICED_S = {'rabbitmq': 3.0 * (HEARTBEAT_S + 1), 'mosquitto': 60.0, 'kafka': 15.0}


async def test_silence_is_noticed_and_survived(broker: Broker, proxied: Instances, unique):
    """The publisher raises in time, the listener notices within its bound, and both recover."""
    query = f'?heartbeat={HEARTBEAT_S}' if broker.name == 'rabbitmq' else ''
    instance = await proxied.start(eventbus_url=broker.proxied_url + query)
    view, group = Inbox(), Inbox()
    made = [
        await instance.subscribe(unique, '#', view),
        await instance.subscribe(unique, '#', group, group='g'),
    ]
    await instance.publish(unique, 'tank', 0)
    await group.next()
    broker.proxy.half_open()

    began = time.monotonic()
    with pytest.raises(events.PublishError):
        await instance.publish(unique, 'tank', 'lost?')
    assert time.monotonic() - began < PUBLISH_TIMEOUT_S + 0.5
    await eventually(lambda: not any(one.active for one in made), NOTICED_S[broker.name])

    broker.proxy.restore()
    for subscription in made:
        await subscription.wait_active(30)
    await instance.publish(unique, 'tank', 1)
    await group.all_of([1])
    await view.all_of([1])


@pytest.mark.parametrize('broker', [RabbitMQ], indirect=True, ids=['rabbitmq'])
async def test_a_large_body_into_silence_is_bounded(broker, proxied, unique):
    """Twenty megabytes fill every buffer; the time limit holds all the same."""
    instance = await proxied.start()
    await instance.publish(unique, 'tank', 0)
    broker.proxy.half_open()

    began = time.monotonic()
    with pytest.raises(events.PublishError) as caught:
        await instance.publish(unique, 'tank', bytes(20_000_000))
    assert time.monotonic() - began < PUBLISH_TIMEOUT_S + 0.5
    assert caught.value.maybe_sent


@pytest.mark.parametrize('broker', [RabbitMQ], indirect=True, ids=['rabbitmq'])
async def test_a_handler_survives_the_loss_of_its_connection(broker, proxied, unique):
    """It is not cancelled; its settlement is void, and the redelivery says that it is one."""
    instance = await proxied.start()
    gate = Gate()
    made = await instance.subscribe(unique, '#', gate, group='g')
    await instance.publish(unique, 'tank', 1)
    first = await gate.next()

    broker.proxy.drop_connections()
    await eventually(lambda: instance.listener.reconnects == 1)
    gate.open()
    await made.wait_active()
    again = await gate.next()

    assert gate.values == [1, 1]
    assert (first.message.redelivered, again.message.redelivered) == (False, True)
    await gate.finished.take(2)
