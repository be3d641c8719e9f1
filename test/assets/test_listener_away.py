"""A call while the owner counts as there, and its listener is not: after a broker's restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from aiohttp import web

from service_scaffold import assets, errors, events, service
from service_scaffold.assets.requests import EXCHANGE
from service_scaffold.testing import running
from service_scaffold.testing.conformance.inbox import eventually
from test.brokers.mosquitto import Mosquitto
from test.brokers.required import require_broker

AT_ONCE_S = 5.0
BACK_S = 30.0
CALLS = 5


class Plant:
    """An owner that reaches the broker through a proxy, and a watcher that reaches it directly."""

    def __init__(self, broker: Mosquitto, watcher: web.Application, mill: assets.AssetProxy):
        self.broker = broker
        self.watcher = watcher
        self.mill = mill
        self.moved: list[float] = []

    async def restart_without_the_owner(self) -> None:
        """Restart the broker; the watcher is back when this returns, the owner is kept away."""
        publisher = events.get_publisher(self.watcher)
        await asyncio.to_thread(self.broker.kill)  # before the owner is cut off: no will
        self.broker.proxy.down()
        await eventually(lambda: not publisher.connected, BACK_S)
        await asyncio.to_thread(self.broker.start)
        await eventually(lambda: publisher.connected, BACK_S)
        assert self.mill.available


@pytest_asyncio.fixture
async def plant(unique: str) -> AsyncIterator[Plant]:
    require_broker(Mosquitto)
    async with AsyncExitStack() as services:
        broker = services.enter_context(Mosquitto())
        apps = []
        for name, url in (('owner', broker.proxied_url), ('watcher', broker.url)):
            flags = ['--eventbus-url', url, '--instance', name + unique, '--asset-lease-s', '60']
            app = service.create_app(name, raw_args=flags)
            assets.setup(app)
            await services.enter_async_context(running(app))
            apps.append(app)

        async def move(x: float) -> float:
            made.moved.append(x)
            return x

        await assets.add(apps[0], 'mill-1', methods={'move': move})
        made = Plant(broker, apps[1], await assets.open(apps[1], 'mill-1'))
        await made.mill.wait_for('avail', lambda value: value == assets.AVAILABLE)
        assert await made.mill.request('move', x=0) == 0
        yield made
        await asyncio.to_thread(broker.start)
        broker.restore()


async def test_a_call_that_reaches_nobody_is_told_at_once(plant: Plant) -> None:
    await plant.restart_without_the_owner()
    began = time.monotonic()

    with pytest.raises(assets.AssetUnavailable, match='does not answer move') as caught:
        await plant.mill.request('move', x=1, timeout_s=BACK_S)
    with pytest.raises(events.NoResponder):
        await events.get_publisher(plant.watcher).request(EXCHANGE, 'mill-1.move', {'x': 1})

    assert time.monotonic() - began < AT_ONCE_S
    assert isinstance(caught.value.__cause__, errors.NoResponder)


async def test_calls_that_may_wait_are_made_once_when_the_owner_is_back(plant: Plant) -> None:
    await plant.restart_without_the_owner()
    stats = events.get_publisher(plant.watcher).stats
    before = sum(stats.failed.values())
    calls = [
        asyncio.ensure_future(plant.mill.request('move', x=n, queue=True, timeout_s=BACK_S))
        for n in range(1, CALLS + 1)
    ]
    await eventually(lambda: sum(stats.failed.values()) >= before + 2 * CALLS, BACK_S)
    assert not any(call.done() for call in calls)

    plant.broker.restore()

    assert await asyncio.gather(*calls) == [float(n) for n in range(1, CALLS + 1)]
    assert sorted(plant.moved) == [float(n) for n in range(CALLS + 1)]


async def test_a_call_that_may_wait_ends_with_its_time(plant: Plant) -> None:
    await plant.restart_without_the_owner()
    began = time.monotonic()

    with pytest.raises((assets.AssetUnavailable, TimeoutError)):
        await plant.mill.request('move', x=1, queue=True, timeout_s=1.0)

    assert 0.5 < time.monotonic() - began < 1.0 + AT_ONCE_S
    assert plant.moved == [0.0]
