"""The running service. Nothing here knows which broker it is on: --eventbus-url says it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient
from service_scaffold import events, testing

from your_service.__main__ import create_app
from your_service.monitor import Monitor, get_monitor

TIMEOUT_S = 20.0

Client = TestClient[Any, Any]
Until = Callable[[Callable[[], object]], Awaitable[None]]
Next = Callable[[], Awaitable[bytes]]
Follow = Callable[[str], Awaitable[Next]]


@pytest.fixture
def options() -> list[str]:
    """The command line; a test module may have its own."""
    return ['--simulate-after-s=0', '--history=3', '--limit=80']


@pytest.fixture
def app(options: list[str], eventbus_url: str) -> web.Application:
    """The service on `--eventbus-url`, else $SERVICE_EVENTBUS_URL, else the memory bus."""
    return create_app([*options, f'--eventbus-url={eventbus_url}'])


@pytest_asyncio.fixture
async def running(app: web.Application) -> AsyncIterator[testing.Running]:
    """The service, started, with every subscription active."""
    async with testing.running(app, active_s=TIMEOUT_S) as running:
        yield running


@pytest.fixture
def client(running: testing.Running) -> Client:
    return running.client


@pytest.fixture
def publisher(running: testing.Running) -> events.EventPublisher:
    return running.publisher


@pytest.fixture
def monitor(running: testing.Running) -> Monitor:
    return get_monitor(running.app)


@pytest.fixture
def sensor() -> str:
    """A sensor that no other test has; the broker may be shared."""
    return f'boiler-{uuid.uuid4().hex[:8]}.temperature'


@pytest.fixture
def until(monitor: Monitor) -> Until:
    """`await until(condition)`: wait for readings and alerts until it holds."""

    async def until(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(TIMEOUT_S), monitor.changed:
            await monitor.changed.wait_for(lambda: bool(condition()))

    return until


@pytest.fixture
def follow(running: testing.Running, sensor: str) -> Follow:
    """`next_body = await follow(exchange)`: what comes there about `sensor` from now on."""

    async def follow(exchange: str) -> Next:
        queue: asyncio.Queue[bytes] = asyncio.Queue()

        async def keep(subscription: object, key: str, body: bytes) -> None:
            queue.put_nowait(body)

        subscription = running.listener.subscribe(exchange, sensor, on_message=keep)
        await subscription.wait_active(TIMEOUT_S)
        return lambda: asyncio.wait_for(queue.get(), TIMEOUT_S)

    return follow
