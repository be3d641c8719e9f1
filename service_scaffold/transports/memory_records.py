"""Events as records and records as events: one name is one log, on Kafka and in memory."""

from __future__ import annotations

import msgspec

from service_scaffold.journal.base import Record
from service_scaffold.message import Message
from service_scaffold.transports.base import Delivery
from service_scaffold.transports.headers import (
    CONTENT_TYPE,
    CORRELATION_ID,
    DEADLINE,
    MESSAGE_ID,
    REPLAY_GROUP,
    REPLY_TO,
    ROUTING_KEY,
)

_OWN = frozenset({ROUTING_KEY, MESSAGE_ID, CORRELATION_ID, REPLY_TO, CONTENT_TYPE})


class EventRecord(msgspec.Struct, gc=False):
    """A published message as it stands in the log; taken apart only when somebody reads it."""

    topic: str
    partition: int
    offset: int
    message: Message

    @property
    def timestamp(self) -> int:
        return int(self.message.timestamp * 1000)

    @property
    def key(self) -> bytes | None:
        return self.message.key.encode()

    @property
    def value(self) -> bytes | None:
        return self.message.body

    @property
    def headers(self) -> tuple[tuple[str, bytes], ...]:
        message = self.message
        own = (
            (ROUTING_KEY, message.routing),
            (MESSAGE_ID, message.message_id),
            (CONTENT_TYPE, message.content_type),
            (CORRELATION_ID, message.correlation_id),
            (REPLY_TO, message.reply_to),
            *message.headers.items(),
        )
        return tuple((name, value.encode()) for name, value in own if value is not None)


class MemoryDelivery(Delivery, gc=False):
    """A delivery from memory; `raw` is the published message.

    Attributes:
        number: Place in its group's queue.
        redelivered: It was handed to a consumer before and not settled.
    """

    number: int = 0
    redelivered: bool = False


def deliver(message: Message, number: int = 0, redelivered: bool = False) -> MemoryDelivery:
    """Make the delivery of a published message."""
    headers = message.headers
    return MemoryDelivery(
        message.exchange,
        message.routing,
        message.body,
        message.content_type,
        message.key,
        message.reply_to is not None
        or (bool(headers) and (DEADLINE in headers or REPLAY_GROUP in headers)),
        message,
        None,
        number,
        redelivered,
    )


def message_of(record: Record) -> Message:
    """Return the event that a record appended by a journal is."""
    headers = {name: value.decode(errors='replace') for name, value in record.headers}
    key = None if record.key is None else record.key.decode(errors='replace')
    return Message(
        record.topic,
        headers.get(ROUTING_KEY, key or ''),
        record.value or b'',
        key=key,
        headers={name: value for name, value in headers.items() if name not in _OWN},
        message_id=headers.get(MESSAGE_ID, f'{record.topic}-{record.partition}-{record.offset}'),
        correlation_id=headers.get(CORRELATION_ID),
        reply_to=headers.get(REPLY_TO),
        content_type=headers.get(CONTENT_TYPE),
        timestamp=record.timestamp / 1000,
    )
