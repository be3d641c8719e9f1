"""The envelope of one event, and the one shape of middleware."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType

_PREFIX = os.urandom(8).hex()
_COUNTER = itertools.count(1)
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def new_message_id() -> str:
    """Return an id that no other message has: a random part per process, and a counter."""
    return f'{_PREFIX}-{next(_COUNTER)}'


if hasattr(os, 'register_at_fork'):  # a forked process must not repeat its parent's ids

    def _renew() -> None:
        global _PREFIX
        _PREFIX = os.urandom(8).hex()

    os.register_at_fork(after_in_child=_renew)


class Message:
    """One event with everything that travels beside its body. Treat it as read-only.

    Attributes:
        exchange: Exchange (Kafka: topic) it was published to.
        routing: Routing key: words joined by dots.
        body: The payload as bytes, exactly as on the wire.
        key: Ordering key; order is kept among messages of one key.
        headers: Headers with string values, ours (`x-…`) included.
        message_id: Id given by the publisher, or derived from the position in the log.
        correlation_id: Ties a reply to its request.
        reply_to: Where an answer is expected; None for events.
        content_type: MIME type of the body; None means JSON.
        timestamp: Epoch seconds at which it was published.
        attempt: How often the handler has been tried in this process, from 1.
        redelivered: Whether the broker may have delivered it before.
        exchange_type: `topic`, `direct` or `fanout`; what a publisher declares.
        retained: Whether MQTT kept it for us (a retained message).
    """

    __slots__ = (
        'attempt',
        'body',
        'content_type',
        'correlation_id',
        'exchange',
        'exchange_type',
        'headers',
        'key',
        'message_id',
        'redelivered',
        'reply_to',
        'retained',
        'routing',
        'timestamp',
    )

    def __init__(
        self,
        exchange: str,
        routing: str,
        body: bytes,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        message_id: str | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        content_type: str | None = None,
        timestamp: float | None = None,
        attempt: int = 1,
        redelivered: bool = False,
        exchange_type: str = 'topic',
        retained: bool = False,
    ) -> None:
        self.exchange = exchange
        self.routing = routing
        self.body = body
        self.key = routing if key is None else key
        self.headers: Mapping[str, str] = _NO_HEADERS if headers is None else headers
        self.message_id = new_message_id() if message_id is None else message_id
        self.correlation_id = correlation_id
        self.reply_to = reply_to
        self.content_type = content_type
        self.timestamp = time.time() if timestamp is None else timestamp
        self.attempt = attempt
        self.redelivered = redelivered
        self.exchange_type = exchange_type
        self.retained = retained

    def replace(self, **changes: object) -> Message:
        """Return a copy with some attributes changed."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values.update(changes)
        exchange, routing, body = (values.pop(name) for name in ('exchange', 'routing', 'body'))
        return Message(exchange, routing, body, **values)

    def __repr__(self) -> str:
        return (
            f'<Message {self.exchange}/{self.routing} id={self.message_id}'
            f' {len(self.body)} bytes attempt={self.attempt}>'
        )


Handler = Callable[[Message], Awaitable[object]]
"""Takes one message; what it returns is the reply, if one is asked for."""

Middleware = Callable[[Handler], Handler]
"""Wraps a handler: `mw(next) -> async (message) -> result`."""


def compose(middlewares: Iterable[Middleware], handler: Handler) -> Handler:
    """Return `handler` wrapped by `middlewares`, the first one outermost."""
    for middleware in reversed(list(middlewares)):
        handler = middleware(handler)
    return handler
