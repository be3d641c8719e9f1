"""What a function receives and sends: a message with its topic."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Generic, Self, TypeVar

from service_scaffold import codecs, errors, events
from service_scaffold.apps.distributed import topics

T = TypeVar('T')
_NOTHING: Mapping[str, str] = MappingProxyType({})

CLIENT_ID = 'client-id'
CLIENT_NAME = 'client-name'


class ReplyAddress(str):
    """Where an answer to one request goes: what is published to it is that answer.

    It holds in whatever task, and however late, as long as somebody waits.
    """

    request: events.Message

    def __new__(cls, request: events.Message) -> Self:
        address = super().__new__(cls, request.reply_to or '')
        address.request = request
        return address


class TopicMessage(Generic[T]):
    """One message. `TopicMessage[Order]` in a callback has its value decoded as an `Order`.

    Attributes:
        topic: `exchange/ro/uting`.
        payload: The body as bytes.
        value: The body, decoded.
        headers: Headers with string values.
        reply_to: Publish to it to answer; None if nobody waits for an answer.
        correlation_id: Ties an answer to its request.
        content_type: MIME type of the body; None means JSON.
        key: Ordering key; None is the routing.
        timestamp: Epoch seconds at which it was made.
        envelope: The event itself, of one that was received.
    """

    __slots__ = (
        'content_type',
        'correlation_id',
        'envelope',
        'headers',
        'key',
        'payload',
        'reply_to',
        'timestamp',
        'topic',
        'value',
    )

    def __init__(
        self,
        topic: str,
        payload: bytes,
        value: T,
        *,
        headers: Mapping[str, str] = _NOTHING,
        reply_to: ReplyAddress | None = None,
        correlation_id: str | None = None,
        content_type: str | None = None,
        key: str | None = None,
        timestamp: float | None = None,
        envelope: events.Message | None = None,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.value = value
        self.headers = headers
        self.reply_to = reply_to
        self.correlation_id = correlation_id
        self.content_type = content_type
        self.key = key
        self.timestamp = time.time() if timestamp is None else timestamp
        self.envelope = envelope

    @property
    def client_id(self) -> str | None:
        """The instance that has sent it, if its builder has said so."""
        return self.headers.get(CLIENT_ID)

    @property
    def client_name(self) -> str | None:
        """The service that has sent it, if its builder has said so."""
        return self.headers.get(CLIENT_NAME)

    def __repr__(self) -> str:
        return f'<TopicMessage {self.topic} {len(self.payload)} bytes>'


def received(envelope: events.Message, value: T, topic: str | None = None) -> TopicMessage[T]:
    """Return an event as a message; an answer has the topic of its request."""
    return TopicMessage(
        topics.join(envelope.exchange, envelope.routing) if topic is None else topic,
        envelope.body,
        value,
        headers=envelope.headers,
        reply_to=None if envelope.reply_to is None else ReplyAddress(envelope),
        correlation_id=envelope.correlation_id,
        content_type=envelope.content_type,
        key=envelope.key,
        timestamp=envelope.timestamp,
        envelope=envelope,
    )


def check_content_type(content_type: str | None) -> None:
    """Refuse what values cannot be encoded as.

    Raises:
        ConfigError: Nothing is registered for it.
    """
    try:
        codecs.lookup(content_type)
    except errors.CodecError as error:
        raise errors.ConfigError(f'content_type: {error}') from None


class MessageBuilder:
    """Makes messages to publish, with headers that name this service and instance.

    `socket.publish(message_builder('plant/level', 3))` is `socket.publish('plant/level', 3)` with
    the headers `client-id` and `client-name`.

    Args:
        client_name: Name of the service.
        client_id: Name of the instance.
        content_type: What values are encoded as, unless a message says otherwise; None is JSON.
    """

    def __init__(self, client_name: str, client_id: str, content_type: str | None = None) -> None:
        self._headers = {CLIENT_ID: client_id, CLIENT_NAME: client_name}
        self._content_type = content_type

    def __call__(
        self,
        topic: str,
        payload: Any,
        *,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        key: str | None = None,
    ) -> TopicMessage[Any]:
        """Return a message.

        Args:
            topic: Where to, for `socket.publish`.
            payload: The value; bytes go out as they are.
            headers: Further headers.
            content_type: What the value is encoded as.
            key: Ordering key.

        Raises:
            EncodeError: The content type cannot express the value.
        """
        body, encoded_as = codecs.encode(payload, content_type or self._content_type)
        return TopicMessage(
            topic,
            body,
            payload,
            headers={**self._headers, **(headers or {})},
            content_type=encoded_as,
            key=key,
        )
