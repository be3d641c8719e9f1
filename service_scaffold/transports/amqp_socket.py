"""The socket below an AMQP connection: made by us, so that we can watch and abort it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from service_scaffold import errors
from service_scaffold.transports.base import Settings

_BUFFER_BYTES = 256 * 1024


class Reader(asyncio.StreamReader):
    """Knows when it has last heard from the broker, and says at once when the stream ends.

    Attributes:
        heard: The event loop's time at which bytes came last.
    """

    def __init__(self, ended: Callable[[Exception | None], None]) -> None:
        super().__init__(limit=_BUFFER_BYTES)
        self._time = asyncio.get_running_loop().time
        self._ended = ended
        self.heard = self._time()

    def feed_data(self, data: Any) -> None:
        self.heard = self._time()
        super().feed_data(data)

    def feed_eof(self) -> None:
        super().feed_eof()
        self._ended(None)

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self._ended(exc)


async def dial(
    settings: Settings, ended: Callable[[Exception | None], None]
) -> tuple[Reader, asyncio.StreamWriter]:
    """Connect to the first host that answers; with TLS, if the address asks for it.

    Args:
        ended: Called when the stream has ended, with the error if there was one.

    Raises:
        BrokerUnreachable: None answers, or none can prove who it is.
    """
    address = settings.address
    # In a thread: the authorities are read from disk.
    context = await asyncio.to_thread(_context, settings) if address.tls else None
    problems: list[str] = []
    for host, port in address.hosts:
        try:
            return await _connect(host, port, context, ended)
        except OSError as error:
            problems.append(f'{host}:{port}: {error}')
    raise errors.BrokerUnreachable(f'No connection to {address}: {"; ".join(problems)}')


async def _connect(
    host: str,
    port: int,
    context: ssl.SSLContext | None,
    ended: Callable[[Exception | None], None],
) -> tuple[Reader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = Reader(ended)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.create_connection(lambda: protocol, host, port, ssl=context)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def _context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.cert:
            context.load_cert_chain(settings.cert, settings.key)
    except OSError as error:
        raise errors.BrokerUnreachable(
            f'The CA, certificate or key for {settings.address} cannot be read: {error}'
        ) from error
    return context
