"""WSGI applications in a furnished service, asked by a client or over a plain socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp.test_utils import TestServer

from service_scaffold.http import wsgi
from test.http.serving import Client, serving

LIMIT_S = 10.0
Environ = dict[str, Any]


@asynccontextmanager
async def mounted(
    wsgi_app: Callable[..., Iterable[bytes]],
    *args: str,
    at: str = '/site',
    prefix: str = '',
    server: type[TestServer] = TestServer,
) -> AsyncIterator[Client]:
    """Serve `wsgi_app` under `prefix` + `at`."""
    async with serving(
        *args,
        routes=lambda app: wsgi.mount(app, at, wsgi_app) and None,
        prefix=prefix,
        server=server,
    ) as client:
        yield client


@asynccontextmanager
async def connected(
    client: Client,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a plain connection to the server of `client`."""
    assert client.port is not None
    reader, writer = await asyncio.open_connection('127.0.0.1', client.port)
    try:
        async with asyncio.timeout(LIMIT_S):
            yield reader, writer
    finally:
        writer.transport.abort()


async def sent(client: Client, request: bytes) -> bytes:
    """Send `request` as it is, and return all that comes until the server closes."""
    async with connected(client) as (reader, writer):
        writer.write(request)
        return await reader.read()


async def at_rest(measure: Callable[[], int]) -> int:
    """Return what `measure` gives when it gives the same twice, 0.1 s apart."""
    before = -1
    for _ in range(int(LIMIT_S / 0.1)):
        if before == (before := measure()):
            return before
        await asyncio.sleep(0.1)
    raise AssertionError('it never comes to rest')


class Recorder:
    """A WSGI application that says `body`, and keeps the environment and body of each request."""

    def __init__(self, body: bytes = b'ok') -> None:
        self.environs: list[Environ] = []
        self.bodies: list[bytes] = []
        self._body = body

    def __call__(self, environ: Environ, start_response: Any) -> list[bytes]:
        self.environs.append(environ)
        self.bodies.append(environ['wsgi.input'].read())
        start_response('200 OK', [('Content-Type', 'text/plain')])
        return [self._body]

    @property
    def environ(self) -> Environ:
        return self.environs[-1]


class Closing:
    """An iterable of blocks that says when it was closed."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._loop = asyncio.get_running_loop()
        self.closed = asyncio.Event()
        self.closes = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._blocks)

    def close(self) -> None:
        self.closes += 1
        self._loop.call_soon_threadsafe(self.closed.set)

    async def wait_closed(self) -> None:
        async with asyncio.timeout(LIMIT_S):
            await self.closed.wait()
