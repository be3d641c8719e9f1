"""The publisher: returns when the broker has confirmed, or raises in time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web

from service_scaffold import codecs, errors, features
from service_scaffold.events import middlewares
from service_scaffold.events.bus import BusFeature
from service_scaffold.events.requests import Requests, raise_remote
from service_scaffold.events.sender import Sender
from service_scaffold.events.stats import PublishStats
from service_scaffold.message import Handler, Message
from service_scaffold.transports import headers as names
from service_scaffold.transports import patterns
from service_scaffold.transports.base import Progress, Transport

_NO_DEFAULT: Any = object()


class EventPublisher(BusFeature):
    """Publishes events over one connection, made at the first use.

    Nothing is queued: each call ends with the broker's confirm, or raises within its time limit.
    The next call tries again; a connection that died since the last one is no error.

    Args:
        app: The application.
        url: Another event bus than `--eventbus-url`.

    Attributes:
        stats: What was published, and what was not.
    """

    def __init__(self, app: web.Application, url: str | None = None) -> None:
        super().__init__(app, 'publisher', url)
        self.stats = PublishStats()
        self._requests = Requests(self.stats)
        self._chain = middlewares.PublishChain(middlewares.of(app), self._send)
        self._begin()

    def _begin(self) -> None:
        self._connect()
        self._sender = Sender(self._settings, self._connection, self.stats)

    def __repr__(self) -> str:
        return f'<EventPublisher {self._settings.address}>'

    async def startup(self, app: web.Application) -> None:
        """Be ready to publish; takes no socket."""
        self._configure()
        self._begin()
        self._chain.compile()
        self._loop = asyncio.get_running_loop()
        self._running = True

    async def shutdown(self, app: web.Application) -> None:
        """End the connection; what waits for a confirm or an answer raises."""
        self._running = False
        self._requests.close()
        await self._connection.stop()

    # Publishing

    async def publish(
        self,
        exchange: str,
        routing: str,
        message: object,
        exchange_type: str = 'topic',
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Publish one event; return when the broker has confirmed it.

        Args:
            exchange: Exchange (Kafka: topic), declared if it is missing.
            routing: Routing key: words joined by dots.
            message: The payload. `bytes` go out as they are, everything else as JSON, unless
                `content_type` says otherwise.
            exchange_type: `topic`, `direct` or `fanout`.
            key: Ordering key; the default is the routing key.
            headers: Headers with string values.
            timeout_s: Seconds for connecting, sending and the confirm together; the default is
                `--publish-timeout-s`. A shorter one that runs out leaves the connection, and
                what others have in flight on it.

        Raises:
            PublishError: (a ConnectionError) It is not confirmed; `phase` and `maybe_sent` tell
                whether publishing it again could duplicate it.
            EncodeError: The payload cannot be expressed.
            ValueError: The exchange or the routing key is not allowed.
        """
        self._check_running()
        patterns.check_exchange(exchange, exchange_type)
        envelope = self._envelope(exchange, exchange_type, routing, message, key, content_type)
        if headers:
            envelope.headers = _strings(headers)
        limit_s = self._limit_s(timeout_s)
        await self._chained(envelope, lambda sent: self._sender.send(sent, limit_s))

    async def _chained(self, message: Message, send: Handler) -> None:
        if self._chain:
            await self._chain.run(message, send)
        else:
            await send(message)

    async def _send(self, message: Message) -> None:
        await self._sender.send(message, self._settings.publish_timeout_s)

    async def publish_many(
        self,
        exchange: str,
        items: Iterable[tuple[Any, ...]],
        exchange_type: str = 'topic',
        *,
        timeout_s: float | None = None,
    ) -> None:
        """Publish events, all on their way at once; return when all are confirmed.

        Args:
            items: `(routing, message)` or `(routing, message, key)`; order per key is kept.
            timeout_s: Seconds that may pass without a further confirm.

        Raises:
            PublishError: `failed` lists the positions that are not confirmed.
            EncodeError, ValueError: One of the items is wrong; nothing was published.
        """
        self._check_running()
        patterns.check_exchange(exchange, exchange_type)
        envelopes = [
            self._envelope(exchange, exchange_type, item[0], item[1], *item[2:]) for item in items
        ]
        if not envelopes:
            return
        limit_s = self._limit_s(timeout_s)
        if self._chain:
            await self._publish_each(envelopes, limit_s)
        else:
            await self._sender.send_all(exchange, envelopes, limit_s)

    async def _publish_each(self, envelopes: Sequence[Message], limit_s: float) -> None:
        """Take every message through the middlewares, then send what comes out in one go."""
        ready: list[Message] = []
        positions: list[int] = []

        complete = False

        async def keep(message: Message) -> None:
            if complete:  # its middleware let us go on without it: it is sent by itself
                await self._send(message)
                return
            ready.append(message)
            positions.append(position)

        for position, envelope in enumerate(envelopes):  # noqa: B007 - `keep` reads it
            await self._chain.run(envelope, keep)
        complete = True
        if not ready:
            return
        try:
            await self._sender.send_all(envelopes[0].exchange, ready, limit_s)
        except errors.PublishError as error:  # a middleware may have left some out
            error.failed = tuple(positions[index] for index in error.failed)
            raise

    def _envelope(
        self,
        exchange: str,
        exchange_type: str,
        routing: str,
        value: object,
        key: str | None = None,
        content_type: str | None = None,
    ) -> Message:
        patterns.check_routing(routing)
        body, content_type = codecs.encode(value, content_type)
        return Message(
            exchange,
            routing,
            body,
            key=key,
            content_type=content_type,
            timestamp=self._clock.time(),
            exchange_type=exchange_type,
        )

    def _check_running(self) -> None:
        if not self._running:
            raise errors.PublishError(
                'The publisher is not running: the application has not started, or has stopped'
            )
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                f'{self!r} belongs to another event loop; from a thread use'
                ' asyncio.run_coroutine_threadsafe(…, loop) with that one'
            )

    def _limit_s(self, timeout_s: float | None) -> float:
        return self._settings.publish_timeout_s if timeout_s is None else timeout_s

    # Requests

    async def request(
        self,
        exchange: str,
        routing: str,
        message: object,
        *,
        content_type: str | None = None,
        timeout_s: float = 30.0,
        default: Any = _NO_DEFAULT,
    ) -> Any:
        """Publish a request and return the answer of whoever answers first.

        Only subscriptions made with `reply=True` answer. The request carries its deadline, and is
        not begun after it.

        Args:
            timeout_s: Seconds to wait for the answer, connecting included.
            default: Returned instead of raising for a time-out, `NoResponder` or an answer that
                cannot be decoded.

        Raises:
            TimeoutError: No answer in time.
            NoResponder: Nobody can answer, and the broker knows (RabbitMQ, memory, Mosquitto).
            RemoteError: The responder raised.
            ConnectionError: The request was not sent, or the connection died meanwhile.
            DecodeError: The answer cannot be decoded.
        """
        try:
            answer = await self.ask(
                exchange, routing, message, content_type=content_type, timeout_s=timeout_s
            )
            return codecs.decode(answer.body, answer.content_type)
        except (TimeoutError, errors.NoResponder, errors.DecodeError):
            if default is _NO_DEFAULT:
                raise
            return default

    async def ask(
        self,
        exchange: str,
        routing: str,
        message: object,
        *,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        timeout_s: float = 30.0,
    ) -> Message:
        """Publish a request and return the envelope of the answer, whose body is not decoded yet.

        Raises:
            Exception: What `request` raises, but for a DecodeError.
        """
        self._check_running()
        patterns.check_exchange(exchange)
        envelope = self._envelope(exchange, 'topic', routing, message, None, content_type)
        if headers:
            envelope.headers = _strings(headers)
        answer = await self._ask(envelope, timeout_s)
        raise_remote(answer)
        return answer

    async def _ask(self, request: Message, timeout_s: float) -> Message:
        limit_s = min(timeout_s, self._settings.publish_timeout_s)
        deadline = f'{self._clock.time() + timeout_s:.3f}'
        request.headers = {**request.headers, names.DEADLINE: deadline}
        what = f'{request.exchange}/{request.routing}'
        try:
            async with asyncio.timeout(timeout_s):
                transport = await self._prepared(request, limit_s)
                with self._requests.expecting(transport) as (correlation_id, answer):
                    request.correlation_id = correlation_id
                    await self._chained(
                        request, lambda sent: self._sender.send(sent, limit_s, mandatory=True)
                    )
                    return await answer
        except errors.PublishError:
            raise
        except TimeoutError:
            raise TimeoutError(f'No answer to {what} within {timeout_s:g} s') from None

    async def _prepared(self, request: Message, limit_s: float) -> Transport:
        """Return the connection, ready to receive the answer to `request`."""
        try:
            async with asyncio.timeout(limit_s):
                transport = await self._connection.obtain()
                request.reply_to = await self._requests.address(transport)
        except (errors.TransportError, OSError) as error:  # a TimeoutError is an OSError
            reason = str(error) or f'no connection within {limit_s:g} s'
            raise self._sender.failure([request], Progress(), reason) from error
        return transport

    # Health

    def health(self) -> features.Health:
        """Report a connection that could not be made, or was lost."""
        ok = self.connected or self._connection.error is None
        ready = ok or self._required == 'no'
        return features.Health(ok=ok, ready=ready, detail=self._bus_detail())


def _strings(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ValueError(f'Header {name!r} must be a string, got {type(value).__name__}')
    return dict(headers)
