"""Between Kafka records and messages: which header holds what.

The record key is the ordering key and the record's time the message's, so that foreign clients
and tools understand them; the rest of the envelope travels in headers.
"""

from __future__ import annotations

from collections.abc import Iterable

from service_scaffold.journal.base import NewRecord, Record
from service_scaffold.message import Message
from service_scaffold.transports.base import Delivery
from service_scaffold.transports.headers import (
    CONTENT_TYPE,
    CORRELATION_ID,
    MESSAGE_ID,
    REPLY_TO,
    ROUTING_KEY,
    SPECIAL,
)

ENVELOPE = frozenset({ROUTING_KEY, MESSAGE_ID, CORRELATION_ID, REPLY_TO, CONTENT_TYPE})
"""Headers that are attributes of a message, not among its headers."""

_SPECIAL = SPECIAL | {REPLY_TO}  # the reply address is a header here
JSON = 'application/json'


def to_record(message: Message, topic: str) -> NewRecord:
    """Return what is appended to `topic` for a message.

    Lone surrogates in a header's value (an exception may name a file with odd bytes) are escaped.

    Raises:
        UnicodeEncodeError: The routing, the key or another name holds lone surrogates.
    """
    headers = [
        (ROUTING_KEY, message.routing.encode()),
        (MESSAGE_ID, message.message_id.encode()),
    ]
    if message.content_type is not None and message.content_type != JSON:
        headers.append((CONTENT_TYPE, message.content_type.encode()))
    if message.correlation_id is not None:
        headers.append((CORRELATION_ID, message.correlation_id.encode()))
    if message.reply_to is not None:
        headers.append((REPLY_TO, message.reply_to.encode()))
    if message.headers:
        headers.extend(
            (name, value.encode('utf-8', 'backslashreplace'))
            for name, value in message.headers.items()
            if name not in ENVELOPE
        )
    return NewRecord(
        topic,
        message.body,
        message.key.encode(),
        tuple(headers),
        timestamp=int(message.timestamp * 1000),
    )


def to_deliveries(records: Iterable[Record]) -> list[Delivery]:
    """Return a delivery for each record; reads only the headers that routing needs."""
    deliveries = []
    for record in records:
        routing = content_type = None
        special = False
        headers = record.headers
        # What `to_record` makes of a plain event needs no loop.
        if len(headers) == 2 and headers[0][0] == ROUTING_KEY and headers[1][0] == MESSAGE_ID:
            routing = _text(headers[0][1])
        else:
            for name, value in headers:
                if name == ROUTING_KEY:
                    routing = _text(value)
                elif name == CONTENT_TYPE:
                    content_type = _text(value)
                elif name in _SPECIAL:
                    special = True
        key = record.key
        if routing is None:
            routing = _text(key)
        deliveries.append(
            Delivery(
                record.topic,
                routing,
                record.value or b'',  # nothing in a tombstone
                content_type,
                routing if key is None else key,
                special,
                record,
            )
        )
    return deliveries


def to_message(delivery: Delivery) -> Message:
    """Build the envelope of a delivery made by `to_deliveries`."""
    record: Record = delivery.raw
    texts = {name: _text(value) for name, value in record.headers}
    message_id = texts.get(MESSAGE_ID) or f'{record.topic}/{record.partition}/{record.offset}'
    return Message(
        delivery.exchange,
        delivery.routing,
        delivery.body,
        key=delivery.routing if record.key is None else _text(record.key),
        headers={name: value for name, value in texts.items() if name not in ENVELOPE},
        message_id=message_id,
        correlation_id=texts.get(CORRELATION_ID),
        reply_to=texts.get(REPLY_TO),
        content_type=delivery.content_type,
        timestamp=record.timestamp / 1000,
    )


def _text(value: bytes | None) -> str:
    """Return bytes of whatever origin as text; a null header is empty."""
    return value.decode('utf-8', 'replace') if value else ''
