"""The socket below an AMQP connection: made by us, so that we can watch and abort it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from service_scaffold import errors
from service_scaffold.transports.base import Settings

_BUFFER_BYTES = 256 * 1024
_HEAD = 7
_METHOD, _CONTENT_HEADER = 1, 2
_DELIVER = bytes([0, 60, 0, 60])
_ASCII = bytes(range(128)) + b'?' * 128


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


class CarefulReader:
    """Blanks what the library could not decode, so that one odd message ends no connection.

    AMQP's short strings need not be UTF-8 and its times may lie beyond the year 9999; the library
    gives up the whole connection then, and a durable queue delivers the message again and again.

    Args:
        decodes: Tells whether the library can decode a frame.
    """

    def __init__(self, reader: asyncio.StreamReader, decodes: Callable[[bytes], bool]) -> None:
        self._reader = reader
        self._decodes = decodes
        self._head = b''

    def at_eof(self) -> bool:
        """As the stream's."""
        return self._reader.at_eof()

    async def read(self, n: int = -1) -> bytes:
        """As the stream's."""
        return await self._reader.read(n)

    async def readexactly(self, n: int) -> bytes:
        """Read the next part of a frame: its type (1), channel and size (6), the rest."""
        data = await self._reader.readexactly(n)
        if len(self._head) < _HEAD:
            self._head += data
            return data
        head, self._head = self._head, b''
        return data if self._decodes(head + data) else _blanked(head[0], data)


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


def _blanked(frame_type: int, payload: bytes) -> bytes:
    if frame_type == _CONTENT_HEADER:  # class, weight, body size; then no properties
        return payload[:12] + b'\0\0' + payload[14:]
    if frame_type == _METHOD and payload[:4] == _DELIVER:
        names = 4 + 1 + payload[4] + 8 + 1  # after consumer tag, delivery tag and a flag
        routing = names + 1 + payload[names]
        exchange_text, routing_text = payload[names + 1 : routing], payload[routing + 1 :]
        return b''.join(
            [
                payload[: names + 1],
                exchange_text.translate(_ASCII),
                payload[routing : routing + 1],
                routing_text[:-1].translate(_ASCII),
                payload[-1:],
            ]
        )
    return payload


def _context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.cert:
            # With no pass phrase the library would ask for one at the terminal, and wait.
            context.load_cert_chain(settings.cert, settings.key, password='')
    except OSError as error:
        raise errors.BrokerUnreachable(
            f'The CA, certificate or key for {settings.address} cannot be read: {error}'
        ) from error
    return context
