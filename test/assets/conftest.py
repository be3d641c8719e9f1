"""Services on one bus that own assets and look at those of others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from service_scaffold import assets, service
from service_scaffold.testing import running

StartService = Callable[..., Awaitable[web.Application]]


@pytest.fixture
def url(unique: str) -> str:
    """The bus that the services of a test share."""
    return f'memory://{unique}'


@pytest.fixture
async def start(url: str) -> AsyncIterator[StartService]:
    """Start a service with assets: `await start('owner')`; flags of its own may follow."""
    async with AsyncExitStack() as services:

        async def start_one(name: str, *flags: str) -> web.Application:
            app = service.create_app(name, raw_args=['--eventbus-url', url, *flags])
            assets.setup(app)
            await services.enter_async_context(running(app))
            return app

        yield start_one
