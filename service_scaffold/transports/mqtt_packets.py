"""MQTT's PUBLISH packet: read here, and the properties that we write.

The client library would close the connection for a U+FEFF in a foreign client's property, and a
broker delivers such a message again at each reconnect of a kept session: so incoming messages
are not left to it. It is also what makes receiving fast.
"""

from __future__ import annotations

import json

import msgspec

from service_scaffold import errors
from service_scaffold.message import Message
from service_scaffold.transports.headers import KEY, MESSAGE_ID, TIMESTAMP
from service_scaffold.transports.mqtt_topics import is_safe

ESCAPED = 'x-escaped-headers'
"""User property with the headers that MQTT strings cannot carry, as one ASCII JSON object."""

CARRIERS = frozenset({MESSAGE_ID, KEY, TIMESTAMP, ESCAPED})
"""User properties for what other protocols have natively; no headers of the event."""

_CONTENT_TYPE, _RESPONSE_TOPIC, _CORRELATION_DATA = 0x03, 0x08, 0x09
_SUBSCRIPTION_IDENTIFIER, _USER_PROPERTY = 0x0B, 0x26
_FIXED_LENGTHS = {0x01: 1, 0x02: 4, 0x23: 2}
_MAX_TEXT = 65_535


class MalformedPacket(ValueError):
    """Bytes that are not an MQTT 5 PUBLISH packet."""


class Incoming(msgspec.Struct):
    """One PUBLISH packet from the broker.

    Attributes:
        topic: Where it was published.
        body: The payload.
        qos: 0 or 1.
        packet_id: What a PUBACK has to name.
        retained: It was stored at the broker before we subscribed.
        duplicate: The broker may have delivered it before.
        identifiers: Those of our subscriptions that it is a copy for.
        headers: The user properties; of several with one name the last.
        message_id: The publisher's, or one given by us on first use.
        copies: Deliveries made from it that are not settled yet.
    """

    topic: str
    body: bytes
    qos: int = 0
    packet_id: int = 0
    retained: bool = False
    duplicate: bool = False
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    identifiers: tuple[int, ...] = ()
    headers: dict[str, str] = {}
    message_id: str | None = None
    copies: int = 1


def read_length(data: bytes | bytearray, start: int) -> tuple[int, int] | None:
    """Read a variable byte integer; return it and the position behind it, None if incomplete."""
    value = 0
    for count, position in enumerate(range(start, len(data))):
        byte = data[position]
        value |= (byte & 0x7F) << 7 * count
        if not byte & 0x80:
            return value, position + 1
        if count == 3:
            raise MalformedPacket('a variable byte integer is longer than four bytes')
    return None


def decode_publish(flags: int, data: bytes) -> Incoming:
    """Read a PUBLISH packet: the low bits of its first byte, and what follows its length.

    Raises:
        MalformedPacket: It is not one, or of QoS 2, which we never ask for.
    """
    qos = flags >> 1 & 3
    if qos > 1:
        raise MalformedPacket(f'a PUBLISH packet of QoS {qos} where 1 was granted at most')
    end = 2 + int.from_bytes(data[:2])
    incoming = Incoming(
        topic=data[2:end].decode('utf-8', 'replace'),
        body=b'',
        qos=qos,
        retained=bool(flags & 1),
        duplicate=bool(flags & 8),
    )
    if qos:
        incoming.packet_id = int.from_bytes(data[end : end + 2])
        end += 2
    sized = read_length(data, end)
    if sized is None or sum(sized) > len(data):
        raise MalformedPacket('a PUBLISH packet shorter than it says')
    length, start = sized
    if length:
        _read_properties(data[start : start + length], incoming)
    incoming.body = data[start + length :]
    return incoming


def _read_properties(data: bytes, incoming: Incoming) -> None:
    position, end = 0, len(data)
    headers: dict[str, str] = {}
    while position < end:
        kind = data[position]
        position += 1
        if kind == _USER_PROPERTY:
            name, position = _read_bytes(data, position)
            value, position = _read_bytes(data, position)
            headers[name.decode('utf-8', 'replace')] = value.decode('utf-8', 'replace')
        elif kind == _SUBSCRIPTION_IDENTIFIER:
            sized = read_length(data, position)
            if sized is None:
                raise MalformedPacket('a property shorter than it says')
            incoming.identifiers += sized[:1]
            position = sized[1]
        elif kind in _FIXED_LENGTHS:
            position += _FIXED_LENGTHS[kind]
        else:
            raw, position = _read_bytes(data, position)
            _set_property(incoming, kind, raw)
    if position > end:
        raise MalformedPacket('a property shorter than it says')
    if ESCAPED in headers:
        headers |= _read_escaped(headers[ESCAPED])
    incoming.headers = headers


def _set_property(incoming: Incoming, kind: int, raw: bytes) -> None:
    if kind == _CONTENT_TYPE:
        incoming.content_type = raw.decode('utf-8', 'replace')
    elif kind == _RESPONSE_TOPIC:
        incoming.response_topic = raw.decode('utf-8', 'replace')
    elif kind == _CORRELATION_DATA:
        incoming.correlation_data = raw
    else:
        raise MalformedPacket(f'property {kind:#x} does not belong into a PUBLISH packet')


def _read_bytes(data: bytes, position: int) -> tuple[bytes, int]:
    start = position + 2
    end = start + int.from_bytes(data[position:start])
    if end > len(data):
        raise MalformedPacket('a property shorter than it says')
    return data[start:end], end


def _read_escaped(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}  # not ours
    return {n: v for n, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}


def encode_properties(message: Message) -> bytes:
    """Return the properties of a PUBLISH packet for `message`, with their length in front.

    Raises:
        PublishError: A part is longer than MQTT allows, or the content type or response topic
            holds characters that it cannot carry.
    """
    parts: list[bytes] = []
    if message.content_type is not None:
        parts.append(_named(_CONTENT_TYPE, 'content type', message.content_type))
    if message.reply_to is not None:
        parts.append(_named(_RESPONSE_TOPIC, 'response topic', message.reply_to))
    if message.correlation_id is not None:
        data = message.correlation_id.encode('utf-8', 'surrogateescape')
        parts.append(bytes((_CORRELATION_DATA,)) + _sized(data, 'correlation id'))
    parts.extend(_user_properties(message))
    packed = b''.join(parts)
    return _length(len(packed)) + packed


def _user_properties(message: Message) -> list[bytes]:
    pairs = {
        MESSAGE_ID: message.message_id,
        TIMESTAMP: repr(message.timestamp),
    }
    if message.key != message.routing:
        pairs[KEY] = message.key
    for name, value in message.headers.items():
        if name not in CARRIERS:
            pairs[name] = value
    escaped = {n: v for n, v in pairs.items() if not (is_safe(n) and is_safe(v))}
    if escaped:
        for name in escaped:
            del pairs[name]
        pairs[ESCAPED] = json.dumps(escaped)
    return [
        b'\x26' + _sized(name.encode(), 'header name') + _sized(value.encode(), f'header {name}')
        for name, value in pairs.items()
    ]


def _named(kind: int, what: str, text: str) -> bytes:
    if not is_safe(text):
        raise errors.PublishError(f'The {what} holds characters that MQTT cannot carry')
    return bytes((kind,)) + _sized(text.encode(), what)


def _sized(data: bytes, what: str) -> bytes:
    if len(data) > _MAX_TEXT:
        raise errors.PublishError(f'The {what} is too long for MQTT: {len(data)} > {_MAX_TEXT}')
    return len(data).to_bytes(2) + data


def _length(value: int) -> bytes:
    out = bytearray()
    while True:
        value, byte = divmod(value, 128)
        out.append(byte | 0x80 if value else byte)
        if not value:
            return bytes(out)


def expiry_properties(expiry_s: int | None) -> bytes:
    """Return the properties of a PUBLISH packet that is kept for so long; None: for ever."""
    if expiry_s is None:
        return b'\x00'
    return b'\x05\x02' + min(expiry_s, 0xFFFFFFFF).to_bytes(4)


def subscription_properties(identifier: int | None) -> bytes:
    """Return the properties of a SUBSCRIBE packet, with their length in front."""
    if identifier is None:
        return b'\x00'
    packed = bytes((_SUBSCRIPTION_IDENTIFIER,)) + _length(identifier)
    return _length(len(packed)) + packed
