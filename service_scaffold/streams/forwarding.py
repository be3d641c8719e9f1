"""Passing an HTTP request on to another worker."""

from __future__ import annotations

import ipaddress
import logging
import socket

import aiohttp
from aiohttp import web
from yarl import URL

LOGGER = logging.getLogger(__name__)

CONNECTIONS = 64
"""How many requests, at most, are on their way to other workers at once."""
CONNECT_S = 2.0
CHUNK = 1 << 16

FORWARDED = 'X-Streams-Forwarded'
"""Header: id of the worker that has passed the request on. It is not passed on again."""
STALE = 'X-Streams-Stale'
"""Header. Of a request: an answer from a copy will do. Of a response: it is from a copy."""

_HOP_BY_HOP = frozenset(
    (
        'connection',
        'keep-alive',
        'proxy-authenticate',
        'proxy-authorization',
        'te',
        'trailer',
        'transfer-encoding',
        'upgrade',
    )
)


class Unanswered(Exception):
    """The other worker has not got what was asked for."""


class Forwarder:
    """Holds the connections to other workers; made at the first request."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def forward(
        self,
        request: web.Request,
        url: str,
        me: str,
        timeout_s: float,
        *,
        stale: bool = False,
        strict: bool = True,
    ) -> web.StreamResponse:
        """Ask another worker, and answer with what it says.

        When that one goes in the middle of its answer, nobody else can go on with it: the client's
        connection is cut off, so that it does not take that part for the whole.

        Args:
            url: Of that worker.
            me: Id of this one.
            timeout_s: Limit of the whole request.
            stale: Whether an answer from a copy will do.
            strict: Whether its 503 is the answer, too.

        Raises:
            Unanswered: It has answered 503, and that is not to be the answer.
            ClientError: The worker cannot be reached, or does not begin to answer.
            TimeoutError: It does not begin to answer in time.
        """
        body = await request.read()
        headers = [(n, v) for n, v in request.headers.items() if _passes(n) and n.lower() != 'host']
        headers.append((FORWARDED, me))
        if stale:
            headers.append((STALE, '1'))
        target = URL(url.rstrip('/') + request.rel_url.raw_path_qs, encoded=True)
        async with self._opened().request(
            request.method,
            target,
            headers=headers,
            data=body or None,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
        ) as answer:
            if answer.status == 503 and not strict:
                raise Unanswered(f'{url} has answered 503')
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            response.headers.extend((n, v) for n, v in answer.headers.items() if _passes(n))
            try:
                await response.prepare(request)
                async for chunk in answer.content.iter_chunked(CHUNK):
                    await response.write(chunk)
                await response.write_eof()
            except (aiohttp.ClientError, TimeoutError, ConnectionResetError) as error:
                LOGGER.info('An answer of %s to %s is cut off: %r', url, request.path, error)
                if request.transport is not None:
                    request.transport.abort()
            return response

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS)
            # The body goes through as it is, compressed or not.
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        return self._session

    async def close(self) -> None:
        """Close all connections; idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def url_of(listens_on: tuple[str, int] | None, name: str | None = None) -> str | None:
    """Return the URL of a server that listens on this host and port; None: it does not listen.

    A server that listens everywhere is reached under the name of this host.

    Args:
        name: What others call this host.
    """
    if listens_on is None:
        return None
    host, port = listens_on
    if name:
        return f'http://{name}:{port}'
    address = ipaddress.ip_address(host.partition('%')[0])
    if address.is_unspecified:
        return f'http://{socket.gethostname()}:{port}'
    return f'http://[{host}]:{port}' if address.version == 6 else f'http://{host}:{port}'


def _passes(name: str) -> bool:
    return name.lower() not in _HOP_BY_HOP
