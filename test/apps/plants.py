"""A distributed application in a test: made, started, and stopped at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from service_scaffold.apps import DistributedApplication, TopicSocket
from service_scaffold.transports import memory
from service_scaffold.transports.memory_bus import MemoryBus

LIMIT_S = 30.0


def plant(name: str = 'plant', **keywords: Any) -> DistributedApplication:
    """Make an application that any port will do for."""
    return DistributedApplication(name, **{'host': '127.0.0.1', 'port': 0, **keywords})


@asynccontextmanager
async def started(app: DistributedApplication) -> AsyncIterator[TopicSocket]:
    """Start an application until the end of the block; give a socket of it."""
    await app.start_async()
    try:
        yield TopicSocket(app.application)
    finally:
        await app.stop()


def bus_of(app: DistributedApplication) -> MemoryBus:
    """Return the memory bus of an application."""
    return memory.broker(app.config['eventbus_url'], scope=app.application)


async def until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Let the event loop turn until something is so."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, 'it never came to be'
        await asyncio.sleep(0.005)
