"""A started application in a test: its HTTP client, its listener and publisher, its bus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from service_scaffold import errors, events, features, options
from service_scaffold.transports import memory
from service_scaffold.transports.memory_bus import MemoryBus


class Running:
    """What `running` gives.

    Attributes:
        app: The application, started.
        client: Sends requests to it.
    """

    def __init__(
        self, app: web.Application, client: TestClient[web.Request, web.Application]
    ) -> None:
        self.app = app
        self.client = client

    @property
    def bus(self) -> MemoryBus:
        """The memory bus: `join`, `published`, `expect`, and the faults.

        Raises:
            ConfigError: The application uses another event bus.
        """
        return memory_bus(self.app)

    @property
    def listener(self) -> events.EventListener:
        """The application's listener."""
        return events.get_listener(self.app)

    @property
    def publisher(self) -> events.EventPublisher:
        """The application's publisher."""
        return events.get_publisher(self.app)

    async def wait_active(self, timeout_s: float = 10.0) -> None:
        """Wait until every subscription is active; raises TimeoutError naming one that is not."""
        for subscription in self.listener.subscriptions:
            await subscription.wait_active(timeout_s)


@asynccontextmanager
async def running(app: web.Application, *, active_s: float = 10.0) -> AsyncIterator[Running]:
    """Start `app` on a free port of the loopback, and stop it at the end.

    Its hooks run as in production. On the memory bus, what is published is remembered for
    `bus.published()` and `bus.expect()`.

    Args:
        active_s: Seconds to wait at the start until every subscription is active, so that what
            the test publishes arrives; 0 does not wait.
    """
    if _is_memory(app):
        memory_bus(app).recording = True
    async with TestClient(TestServer(app)) as client:
        started = Running(app, client)
        if active_s and features.has(app, events.EventListener):
            await started.wait_active(active_s)
        yield started


def memory_bus(app: web.Application) -> MemoryBus:
    """Return the memory bus of an application, started or not.

    Raises:
        ConfigError: The application uses another event bus.
    """
    if not _is_memory(app):
        raise errors.ConfigError(
            'The application does not use the memory bus; --eventbus-url must be memory://'
        )
    url = options.get_config(app)['eventbus_url']
    return memory.broker(url, scope=app, clock=features.get_clock(app))


def _is_memory(app: web.Application) -> bool:
    return str(options.get_config(app)['eventbus_url']).startswith('memory://')
