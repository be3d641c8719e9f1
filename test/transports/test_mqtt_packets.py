"""PUBLISH packets: what we write we read, and what is broken is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_scaffold import errors
from service_scaffold.message import Message
from service_scaffold.transports.mqtt_packets import (
    MalformedPacket,
    decode_publish,
    encode_properties,
    read_length,
)

TEXT = st.text(max_size=40)


def packet(message: Message, topic: bytes = b'plant/x') -> bytes:
    return len(topic).to_bytes(2) + topic + b'\0\7' + encode_properties(message) + message.body


@given(
    body=st.binary(max_size=300),
    headers=st.dictionaries(TEXT.filter(lambda name: not name.startswith('x-')), TEXT, max_size=5),
    key=TEXT,
    message_id=TEXT,
)
def test_headers_and_bodies_come_back(body, headers, key, message_id):
    """Any text may be a header, control characters and lone surrogates included."""
    message = Message('plant', 'x', body, headers=headers, key=key, message_id=message_id)

    incoming = decode_publish(0b0010, packet(message))

    assert incoming.body == body
    assert incoming.packet_id == 7
    assert incoming.headers['x-message-id'] == message_id
    assert incoming.headers.get('x-key', 'x') == key
    assert {n: v for n, v in incoming.headers.items() if not n.startswith('x-')} == headers


def test_native_properties_come_back():
    """Content type, response topic and correlation data are MQTT's own."""
    message = Message(
        'plant', 'x', b'', content_type='text/plain', reply_to='me/1', correlation_id='c\udcff'
    )

    incoming = decode_publish(0b1011, packet(message))

    assert incoming.content_type == 'text/plain'
    assert incoming.response_topic == 'me/1'
    assert incoming.correlation_data == b'c\xff'
    assert (incoming.retained, incoming.duplicate, incoming.qos) == (True, True, 1)


def test_foreign_properties_are_passed_over():
    """Payload format, expiry and several identifiers stand beside what we need."""
    properties = b'\x01\x01\x02\0\0\0\x09\x0b\x05\x0b\x80\x01\x26\0\1a\0\3\xef\xbb\xbf'
    data = b'\0\1t' + bytes([len(properties)]) + properties + b'body'

    incoming = decode_publish(0, data)

    assert incoming.identifiers == (5, 128)
    assert incoming.headers == {'a': '\ufeff'}
    assert incoming.body == b'body'


@pytest.mark.parametrize(
    ('flags', 'data'),
    [
        (0b0100, b'\0\1t\0\1\0'),  # QoS 2
        (0, b'\0\1t\5\0'),  # properties longer than the packet
        (0, b'\0\1t\3\x26\0\x09'),  # a name longer than the properties
        (0, b'\0\1t\1\x0b'),  # an identifier without a value
        (0, b'\0\1t\2\x02\0'),  # a fixed length that is not there
        (0, b'\0\1t\3\x11\0\0'),  # a property of another packet
        (0, b'\0\1t\xff\xff\xff\xff\xff'),  # a length of five bytes
        (0, b''),
    ],
)
def test_broken_packets_are_refused(flags, data):
    """A broken packet is an error, never half a message."""
    with pytest.raises(MalformedPacket):
        decode_publish(flags, data)


@given(st.binary(max_size=60))
def test_garbage_is_refused_or_read(data):
    """Whatever comes, nothing but `MalformedPacket` is raised."""
    try:
        decode_publish(0, data)
    except MalformedPacket:
        pass


def test_foreign_use_of_our_escape_does_no_harm():
    """The property that holds escaped headers may hold anything."""
    for text in (b'no json', b'[1]', b'{"a": 1}'):
        properties = b'\x26\0\x11x-escaped-headers' + len(text).to_bytes(2) + text
        data = b'\0\1t' + bytes([len(properties)]) + properties

        assert list(decode_publish(0, data).headers) == ['x-escaped-headers']


@pytest.mark.parametrize(
    'fields',
    [
        {'headers': {'a': 'x' * 70_000}},
        {'content_type': 'text/plain\n'},
        {'reply_to': 'a\0b'},
        {'correlation_id': 'x' * 70_000},
    ],
)
def test_what_cannot_be_carried_is_refused(fields):
    """It is told to the publisher; the broker would end the connection."""
    with pytest.raises(errors.PublishError):
        encode_properties(Message('plant', 'x', b'', **fields))


def test_lengths_need_all_their_bytes():
    """A length that has not come whole is waited for."""
    assert read_length(b'\x80', 0) is None
    assert read_length(b'\x80\x01', 0) == (128, 2)
    assert read_length(b'', 0) is None
