"""What we need of aiormq, and nothing else of this project knows of it.

The only module that imports the client libraries. aiormq is used directly: one layer less per
message than aio-pika, and none of its own reconnecting, which is done above for all transports.
"""

from __future__ import annotations

import asyncio
import logging
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import count
from typing import Any

import aiormq
import pamqp.frame
from aiormq.abc import ChannelFrame, ConfirmationFrameType, DeliveredMessage
from aiormq.connection import TransportFactory
from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelAccessRefused,
    ChannelClosed,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.exceptions import PAMQPException
from pamqp.header import ContentHeader
from yarl import URL

from service_scaffold import errors
from service_scaffold.transports.amqp_socket import CarefulReader
from service_scaffold.transports.base import Settings

LOGGER = logging.getLogger(__name__)

Received = DeliveredMessage
"""One message as aiormq hands it over: `delivery`, `header.properties`, `body`, `channel`."""
LIBRARY_ERRORS = (AMQPError, OSError, RuntimeError)
"""What a call of the library may raise, besides its own kind of `CancelledError`."""

_CODES: dict[type[AMQPError], int] = {
    ChannelAccessRefused: 403,
    ChannelNotFoundEntity: 404,
    ChannelLockedResource: 405,
    ChannelPreconditionFailed: 406,
}
_FRAMES = 1000  # frames that may wait between the socket's reader and a channel's
_USER = re.compile(r" (?:for|by) user '[^']*'")


class Refused(Exception):
    """The broker has closed one channel because of one request, or has not answered it.

    Attributes:
        code: AMQP's reply code: 403 access, 404 not there, 405 locked, 406 differs; else 0.
        text: The broker's explanation, without the user's name.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Channel(aiormq.Channel):
    """One channel with at most one consumer, or with publisher confirms.

    aiormq starts a task for each delivery and makes three futures for each publish. Here a
    delivery goes to `on_delivery`, a confirm to `on_confirm`, both plain calls.
    """

    def __init__(self, connection: aiormq.Connection, number: int, *, confirms: bool) -> None:
        super().__init__(connection, number, publisher_confirms=confirms, frame_buffer=_FRAMES)
        self.on_delivery: Callable[[Received], None] | None = None
        self.on_confirm: Callable[[int, bool, bool], None] | None = None
        """Takes `(delivery tag, all up to it, accepted)`."""
        self.on_return: Callable[[Received], None] | None = None

    async def _on_deliver_frame(self, frame: commands.Basic.Deliver) -> None:
        message = await self._read_content(frame, await self._get_frame())  # type: ignore[arg-type]
        if self.on_delivery is not None:
            self.on_delivery(message)

    async def _on_return_frame(self, frame: commands.Basic.Return) -> None:
        message = await self._read_content(frame, await self._get_frame())  # type: ignore[arg-type]
        if self.on_return is not None:
            self.on_return(message)

    async def _on_confirm_frame(self, frame: ConfirmationFrameType) -> None:
        if self.on_confirm is not None:
            accepted = isinstance(frame, commands.Basic.Ack)
            self.on_confirm(
                frame.delivery_tag or 0, bool(getattr(frame, 'multiple', False)), accepted
            )

    @property
    def writable(self) -> bool:
        """Whether `write` will succeed now."""
        return not self.write_queue.full() and not self.is_closed

    def write(self, payload: bytes, drained: asyncio.Future[None] | None = None) -> None:
        """Queue bytes for the socket; `drained` is done when they have left our buffer."""
        self.write_queue.put_nowait(ChannelFrame(payload, False, drained))

    def acks(self, up_to: int, single: Iterable[int], back: Iterable[int]) -> bytes:
        """Return the frames that hand `back` deliveries, settle all `up_to` one (0: none), and
        settle some that stand alone.
        """
        frames: list[Any] = [commands.Basic.Nack(tag, False, True) for tag in back]
        if up_to:
            frames.append(commands.Basic.Ack(up_to, True))
        frames += [commands.Basic.Ack(tag, False) for tag in single]
        return b''.join(pamqp.frame.marshal(frame, self.number) for frame in frames)

    def content(
        self,
        exchange: str,
        routing: str,
        body: bytes,
        properties: Mapping[str, Any],
        mandatory: bool,
    ) -> bytes:
        """Return the frames that publish one message.

        Raises:
            ValueError: A property does not fit into AMQP's fields.
        """
        number = self.number
        try:
            header = ContentHeader(
                properties=commands.Basic.Properties(**properties), body_size=len(body)
            )
            parts = [
                _publish_frame(number, exchange, routing, mandatory),
                pamqp.frame.marshal(header, number),
            ]
        except (TypeError, OverflowError, struct.error) as error:
            raise ValueError(str(error)) from error
        limit = self.max_content_size if self.max_content_size > 0 else max(len(body), 1)
        if len(parts[1]) > limit:  # content headers, unlike bodies, cannot be split
            raise ValueError(f'headers of {len(parts[1])} bytes; the broker takes {limit}')
        for start in range(0, len(body), limit):
            chunk = ContentBody(body[start : start + limit])
            parts.append(pamqp.frame.marshal(chunk, number))
        return b''.join(parts)


@lru_cache(maxsize=4096)
def _publish_frame(number: int, exchange: str, routing: str, mandatory: bool) -> bytes:
    """Return the first frame of a message, the same for all with one routing key."""
    method = commands.Basic.Publish(exchange=exchange, routing_key=routing, mandatory=mandatory)
    return pamqp.frame.marshal(method, number)


class _Dialled(TransportFactory):
    """Hands aiormq a connection that we have made and can abort."""

    def __init__(self, reader: Any, writer: asyncio.StreamWriter) -> None:
        self._pair = reader, writer

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return self._pair


class Connection(aiormq.Connection):
    """A connection whose name in the library's log lines holds no credentials."""

    def __str__(self) -> str:
        return f'{self.url.host}:{self.url.port}'


def quieten() -> None:
    """Silence the library, unless somebody has configured its logger.

    It logs each loss with a traceback, and each request that a caller has given up; what has
    failed is raised to us, and said once by whoever keeps the connection.
    """
    logger = logging.getLogger('aiormq')
    if logger.level == logging.NOTSET and not logger.isEnabledFor(logging.DEBUG):
        logger.setLevel(logging.CRITICAL)


def new_connection(
    settings: Settings,
    heartbeat_s: int,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    careful: bool,
) -> Connection:
    """Return a connection over a socket that is open already; to be logged in by `log_in`.

    Args:
        careful: Check each frame before the library decodes it.
    """
    address = settings.address
    connection = Connection(
        URL.build(
            scheme=address.scheme,
            user=address.user,
            password=address.password,
            host=address.host,
            port=address.port,
            path='/',
            query={'heartbeat': str(heartbeat_s), 'auth': address.query.get('auth', 'plain')},
        ),
        transport_factory=_Dialled(CarefulReader(reader, _decodes) if careful else reader, writer),
        client_properties={
            'connection_name': f'{settings.name}.{settings.instance}.{settings.role}'
        },
    )
    connection.vhost = address.path or '/'
    return connection


async def log_in(connection: Connection, settings: Settings) -> None:
    """Greet the broker and log in.

    Raises:
        BrokerUnreachable: It does not answer as a broker.
        AccessRefused: Credentials or virtual host are refused.
    """
    address = settings.address
    try:
        await connection.connect()
    except (ProbableAuthenticationError, AuthenticationError):
        # Not chained, here and below: the broker's texts hold the user's name.
        raise errors.AccessRefused(f'{address} refuses the credentials') from None
    # The library iterates over frames: an end before the first one is a `StopAsyncIteration`.
    except (*LIBRARY_ERRORS, asyncio.IncompleteReadError, StopAsyncIteration) as error:
        if 'Connection.Close' in str(error):  # the answer to Connection.Open
            raise errors.AccessRefused(
                f'{address}: the virtual host {connection.vhost!r} does not exist, or is closed'
                ' to these credentials'
            ) from None
        raise errors.BrokerUnreachable(
            f'{address} does not speak AMQP 0-9-1 to us: {text_of_error(error)}'
        ) from error


def new_channel(connection: Connection, *, confirms: bool) -> Channel:
    """Return a channel with a free number, to be opened.

    Raises:
        BindingRefused: There is none.
    """
    number = next(n for n in count(1) if n not in connection.channels)
    limit = connection.connection_tune.channel_max or 65535
    if number > limit:
        raise errors.BindingRefused(f'All {limit} channels of the connection are in use')
    channel = connection.channels[number] = Channel(connection, number, confirms=confirms)
    return channel


async def close_quietly(channel: Channel) -> None:
    """Close a channel; that it ends in another way meanwhile is no error."""
    try:
        await channel.close()
    except LIBRARY_ERRORS as error:
        LOGGER.debug('Channel %s did not close in order: %s', channel.number, text_of_error(error))


def refused(error: BaseException | None) -> Refused:
    """Return what the broker meant when it closed a channel with `error`."""
    code = next((c for kind, c in _CODES.items() if isinstance(error, kind)), 0)
    if not code and isinstance(error, ChannelClosed) and error.args and error.args[0]:
        code = int(error.args[0])
    return Refused(code, text_of_error(error))


def is_undecodable(error: BaseException | None) -> bool:
    """Tell whether a connection has ended because the library could not decode a frame."""
    return isinstance(error, InvalidFrameError | ValueError | ArithmeticError)


def _decodes(frame: bytes) -> bool:
    try:
        pamqp.frame.unmarshal(frame)
    except (PAMQPException, ValueError, ArithmeticError):
        return False
    return True


def text_of_error(error: BaseException | None) -> str:
    """Return the broker's or the library's explanation, without the user's name."""
    if error is None:
        return 'closed'
    text = ' '.join(str(part) for part in error.args if part is not None) or type(error).__name__
    return _USER.sub('', text)
