"""A furnished application on a free port of this machine, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from service_scaffold import service

Client = TestClient[web.Request, web.Application]


class UncancelledServer(TestServer):
    """As the service runs it, a request whose client leaves goes on; aiohttp's own cancels it."""

    async def _make_runner(self, **settings: Any) -> web.AppRunner:
        return web.AppRunner(self.app, **{**settings, 'handler_cancellation': False})


@asynccontextmanager
async def serving(
    *args: str,
    routes: Callable[[web.Application], None] | None = None,
    prefix: str | None = None,
    server: type[TestServer] = TestServer,
) -> AsyncIterator[Client]:
    """Serve an application `plant` made with `args`, after `routes(app)` has added to it."""
    app = service.create_app('plant', raw_args=list(args))
    if routes is not None:
        routes(app)
    service.furnish(app, prefix)
    async with TestClient(server(app)) as client:
        yield client
