"""Services on one bus that own assets and look at those of others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from service_scaffold import assets, service
from service_scaffold.testing import running
from test.brokers.process import Broker

StartService = Callable[..., Awaitable[web.Application]]
Named = Callable[[str], str]


@pytest.fixture(params=['memory', 'rabbitmq', 'kafka', 'mosquitto'])
def url(request: pytest.FixtureRequest, unique: str) -> str:
    """The bus that the services of a test share: one of each kind after the other."""
    if request.param == 'memory':
        return f'memory://{unique}'
    broker: Broker = request.getfixturevalue(request.param)
    return broker.url


@pytest.fixture
async def start(url: str, unique: str) -> AsyncIterator[StartService]:
    """Start a service with assets: `await start('owner')`; flags of its own may follow."""
    async with AsyncExitStack() as services:

        async def start_one(name: str, *flags: str) -> web.Application:
            instance = f'{name}-{unique}'
            app = service.create_app(
                name, raw_args=['--eventbus-url', url, '--instance', instance, *flags]
            )
            assets.setup(app)
            await services.enter_async_context(running(app))
            return app

        yield start_one


@pytest.fixture
def id_(unique: str) -> Named:
    """Makes a name that no other test uses."""
    return lambda name: f'{name}-{unique}'
