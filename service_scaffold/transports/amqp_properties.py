"""Envelopes to AMQP's properties and back; foreign publishers are taken as they are."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any

from service_scaffold.clock import Clock
from service_scaffold.message import Message, new_message_id
from service_scaffold.transports.base import Delivery
from service_scaffold.transports.headers import DEADLINE, KEY, REPLAY_GROUP, TIMESTAMP

_OWN = frozenset({KEY, TIMESTAMP})
_PERSISTENT = 2
_NAME_LENGTH = 128
_UTC = datetime.UTC


def properties_of(message: Message) -> dict[str, Any]:
    """Return the native properties of a message to be published, by name.

    Raises:
        ValueError: The timestamp is not a time, or a header's name is too long.
    """
    timestamp = message.timestamp
    headers: dict[str, Any] = {TIMESTAMP: repr(timestamp)}
    for name, value in message.headers.items():
        if len(name) > _NAME_LENGTH:  # the library would cut it
            raise ValueError(f'header name of {len(name)} characters; {_NAME_LENGTH} are allowed')
        headers[name] = text_of(value)
    if message.key != message.routing:
        headers[KEY] = message.key
    return {
        'content_type': message.content_type,
        'headers': headers,
        'delivery_mode': _PERSISTENT,
        'correlation_id': message.correlation_id,
        'reply_to': message.reply_to,
        'message_id': message.message_id,
        'timestamp': datetime.datetime.fromtimestamp(timestamp, _UTC),
    }


def delivery_of(received: Any) -> Delivery:
    """Return what the pipeline needs of a received message, without building an envelope."""
    properties = received.header.properties
    routing = received.delivery.routing_key
    headers = properties.headers
    key, special = routing, bool(properties.reply_to)
    if headers:
        if KEY in headers:
            key = text_of(headers[KEY])
        special = special or DEADLINE in headers or REPLAY_GROUP in headers
    return Delivery(
        received.delivery.exchange,
        routing,
        received.body,
        properties.content_type or None,
        key,
        special,
        received,
    )


def message_of(received: Any, clock: Clock) -> Message:
    """Return the envelope of a received message."""
    properties = received.header.properties
    headers = properties.headers or {}
    key = headers.get(KEY)
    return Message(
        received.delivery.exchange,
        received.delivery.routing_key,
        received.body,
        key=None if key is None else text_of(key),
        headers={name: text_of(value) for name, value in headers.items() if name not in _OWN},
        message_id=properties.message_id or new_message_id(),
        correlation_id=properties.correlation_id or None,
        reply_to=properties.reply_to or None,
        content_type=properties.content_type or None,
        timestamp=_timestamp(headers, properties.timestamp, clock),
        redelivered=bool(getattr(received.delivery, 'redelivered', False)),
    )


def text_of(value: object) -> str:
    """Return the value of a header as text: tables and arrays as JSON, bytes as UTF-8.

    Lone surrogates (an exception may name a file with odd bytes) are escaped.
    """
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors='backslashreplace').decode()
    if isinstance(value, bytes | bytearray):
        return value.decode(errors='backslashreplace')
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if value is None:
        return ''
    if isinstance(value, bool | dict | list):
        return json.dumps(value, default=text_of, ensure_ascii=False)
    return str(value)


def _timestamp(headers: Mapping[str, Any], native: datetime.datetime | None, clock: Clock) -> float:
    try:
        return float(headers[TIMESTAMP])
    except (KeyError, TypeError, ValueError):  # a foreign publisher
        return clock.time() if native is None else native.timestamp()
