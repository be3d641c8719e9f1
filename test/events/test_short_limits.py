"""A call that gives up early, while a slow but healthy broker is about to confirm others."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold import events
from service_scaffold.testing import running
from test.brokers.process import Broker
from test.events.conftest import MakeApp

SLOW_S = 0.3


@pytest.fixture(params=['rabbitmq', 'kafka', 'mosquitto'])
def slow_broker(request: pytest.FixtureRequest) -> Broker:
    broker: Broker = request.getfixturevalue(request.param)
    return broker


async def test_the_connection_stays_and_the_others_are_confirmed(
    make_app: MakeApp, slow_broker: Broker, unique: str
) -> None:
    app = make_app(f'--eventbus-url={slow_broker.proxied_url}')
    async with running(app) as plant:
        publisher = plant.publisher
        await publisher.publish(unique, 'a', 0)
        slow_broker.proxy.slow(SLOW_S)
        patient = asyncio.gather(*(publisher.publish(unique, 'a', n) for n in range(10)))
        for _ in range(2):
            with pytest.raises(events.PublishError) as raised:
                await publisher.publish(unique, 'a', 'hasty', timeout_s=SLOW_S / 4)
            assert raised.value.maybe_sent
        await patient
        slow_broker.proxy.slow(0)
        await publisher.publish(unique, 'a', 'after')
        assert publisher.stats.published == {unique: 12}
        assert publisher.reconnects == 0
