"""Tests of `service_scaffold.streams.serializers`."""

from __future__ import annotations

import enum
import pickle
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, NewType
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_scaffold import errors
from service_scaffold.streams import serializers
from service_scaffold.streams.records import Record
from service_scaffold.streams.serializers import key_codec, lookup, value_codec

Account = NewType('Account', str)
Short = Annotated[str, msgspec.Meta(max_length=3)]


class Order(Record):
    id: int
    amount: float = 0.0


class Packed(Record, serializer='msgpack'):
    id: int


class Colour(enum.StrEnum):
    RED = 'red'


class Model(pydantic.BaseModel):
    id: int


class Reversed:
    """A codec of somebody's own."""

    def encode(self, value: Any) -> bytes:
        return str(value)[::-1].encode()

    def decode(self, body: bytes) -> object:
        return int(body.decode()[::-1])


NAMES = ['json', 'msgpack', 'yaml', 'text', 'raw', 'binary', 'pickle', 'json|binary']


@pytest.mark.parametrize('name', NAMES)
def test_a_tombstone_has_no_bytes(name: str) -> None:
    assert value_codec(name).encode(None) is None
    assert key_codec(name).encode(None) is None


@pytest.mark.parametrize(
    ('name', 'body'),
    [
        ('json', b'{"id":1,"amount":2.5}'),
        ('yaml', b'id: 1\namount: 2.5\n'),
        ('application/vnd.shop+json', b'{"id":1,"amount":2.5}'),
        ('json|binary', b'eyJpZCI6MSwiYW1vdW50IjoyLjV9'),
        ('json | binary', b'eyJpZCI6MSwiYW1vdW50IjoyLjV9'),
    ],
)
def test_a_record_is_written_as_named(name: str, body: bytes) -> None:
    codec = value_codec(name, Order)

    assert codec.encode(Order(1, 2.5)) == body
    assert codec.decode(body) == Order(1, 2.5)


@pytest.mark.parametrize('name', ['json', 'msgpack', 'yaml', 'pickle', 'msgpack|binary|binary'])
@pytest.mark.parametrize(
    ('annotation', 'value'),
    [
        (Order, Order(1, 2.5)),
        (Model, Model(id=1)),
        (list[Order], [Order(1), Order(2)]),
        (dict[str, int], {'a': 1}),
        (None, {'a': [1, 'b', None]}),
        (int | None, 5),
        (UUID, UUID(int=5)),
        (Decimal, Decimal('1.10')),
        (datetime, datetime(2026, 1, 2, 3, 4, tzinfo=UTC)),
        (str, 'ünï'),
        (bool, False),
    ],
    ids=repr,
)
def test_what_is_encoded_comes_back_as_its_type(name: str, annotation: Any, value: object) -> None:
    codec = value_codec(name, annotation)

    decoded = codec.decode(codec.encode(value) or b'')

    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize(
    'name', ['json', 'msgpack', 'yaml', 'text', 'raw', 'binary', 'json|binary']
)
@pytest.mark.parametrize('value', [b'', b'\x00\xff', b'{"a"'])
def test_bytes_are_bytes_for_those_who_declare_them(name: str, value: bytes) -> None:
    codec = value_codec(name, bytes)

    assert codec.decode(codec.encode(value) or b'') == value


@pytest.mark.parametrize(
    ('annotation', 'value', 'body'),
    [
        (None, 'héllo', 'héllo'.encode()),
        (str, '5', b'5'),
        (int, 5, b'5'),
        (float, 0.5, b'0.5'),
        (bool, True, b'True'),
        (Decimal, Decimal('1.10'), b'1.10'),
        (datetime, datetime(2026, 1, 2, tzinfo=UTC), b'2026-01-02 00:00:00+00:00'),
    ],
    ids=repr,
)
def test_text_stands_for_the_declared_type(annotation: Any, value: object, body: bytes) -> None:
    codec = value_codec('text', annotation)

    assert codec.encode(value) == body
    assert codec.decode(body) == value


@pytest.mark.parametrize('name', ['raw', 'binary'])
def test_raw_takes_text_and_bytes_only(name: str) -> None:
    assert value_codec(name, str).decode(value_codec(name).encode('é') or b'') == 'é'
    with pytest.raises(errors.EncodeError, match='int'):
        value_codec(name).encode(5)
    with pytest.raises(TypeError, match='declare bytes or str'):
        value_codec(name, Order)


@pytest.mark.parametrize(
    ('name', 'annotation', 'body'),
    [
        ('json', None, b'{'),
        ('json', Order, b'{'),
        ('msgpack', Order, b'\xc1'),
        ('yaml', None, b'a: ['),
        ('text', None, b'\xff'),
        ('raw', str, b'\xff'),
        ('binary', None, b'not base64!'),
        ('pickle', None, b'junk'),
        ('pickle', None, b''),
        ('json|binary', Order, b'{"id":1}'),
        ('json|binary', Order, b'ew=='),
    ],
)
def test_damaged_bytes_are_a_decode_error(name: str, annotation: Any, body: bytes) -> None:
    with pytest.raises(errors.DecodeError) as caught:
        value_codec(name, annotation).decode(body)
    assert not isinstance(caught.value, errors.InvalidBody)


@pytest.mark.parametrize('name', ['json', 'msgpack', 'yaml', 'pickle', 'json|binary'])
def test_a_value_of_another_type_is_an_invalid_body(name: str) -> None:
    body = value_codec(name).encode({'id': 'one'}) or b''

    with pytest.raises(errors.InvalidBody, match='Order'):
        value_codec(name, Order).decode(body)


def test_text_that_is_not_of_the_type_is_an_invalid_body() -> None:
    with pytest.raises(errors.InvalidBody, match='int'):
        value_codec('text', int).decode(b'five')


@pytest.mark.parametrize('name', ['json', 'msgpack', 'yaml', 'pickle'])
def test_what_cannot_be_encoded_is_an_encode_error(name: str) -> None:
    with pytest.raises(errors.EncodeError):
        value_codec(name).encode({'a': (item for item in ())})


def test_a_value_without_a_serializer_is_json_or_what_its_record_says() -> None:
    assert value_codec().encode('a') == b'"a"'
    assert value_codec(None, Order).encode(Order(1)) == b'{"id":1,"amount":0.0}'
    assert value_codec(None, Packed).encode(Packed(1)) == b'\x81\xa2id\x01'
    assert value_codec('json', Packed).encode(Packed(1)) == b'{"id":1}'


@pytest.mark.parametrize(
    ('key', 'body', 'decoded'),
    [
        ('ann', b'ann', 'ann'),
        ('é"', 'é"'.encode(), 'é"'),
        (b'\xff\x00', b'\xff\x00', b'\xff\x00'),
        (b'ann', b'ann', 'ann'),
        (5, b'5', '5'),
        ((1, 'a'), b'[1,"a"]', '[1,"a"]'),
        (Order(1), b'{"id":1,"amount":0.0}', '{"id":1,"amount":0.0}'),
    ],
)
def test_a_key_without_a_type_is_text_or_bytes(key: object, body: bytes, decoded: object) -> None:
    codec = key_codec()

    assert codec.encode(key) == body
    assert codec.decode(body) == decoded


@pytest.mark.parametrize(
    ('annotation', 'key', 'body'),
    [
        (str, 'ann', b'ann'),
        (Account, Account('5'), b'5'),
        (Short, 'abc', b'abc'),
        (bytes, b'\xff', b'\xff'),
        (int, 5, b'5'),
        (str | None, 'ann', b'ann'),
        (Colour, Colour.RED, b'"red"'),
        (UUID, UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (tuple[int, str], (1, 'a'), b'[1,"a"]'),
        (Order, Order(1), b'{"id":1,"amount":0.0}'),
    ],
    ids=repr,
)
def test_a_key_comes_back_as_its_type(annotation: Any, key: object, body: bytes) -> None:
    codec = key_codec(None, annotation)

    decoded = codec.decode(body)

    assert codec.encode(key) == body
    assert decoded == key
    assert type(decoded) is type(key)


def test_a_key_of_another_type_is_an_invalid_body() -> None:
    with pytest.raises(errors.InvalidBody, match='int'):
        key_codec(None, int).decode(b'"five"')
    with pytest.raises(errors.InvalidBody, match='length'):
        key_codec(None, Short).decode(b'long')


def test_a_key_may_name_its_serializer() -> None:
    assert key_codec('json', str).encode('ann') == b'"ann"'


@given(st.text() | st.binary())
def test_any_text_or_bytes_key_round_trips(key: str | bytes) -> None:
    codec = key_codec(None, type(key))

    assert codec.decode(codec.encode(key) or b'') == key


@pytest.mark.parametrize(
    ('name', 'told'),
    [
        ('jsno', "did you mean 'json'"),
        ('json|binray', "did you mean 'binary'"),
        ('protobuf', 'known are binary, json'),
        ('', 'known are'),
        ('application/unheard', 'application/unheard'),
    ],
)
def test_an_unknown_name_is_a_config_error(name: str, told: str) -> None:
    with pytest.raises(errors.ConfigError, match=told):
        lookup(name)


def test_what_is_no_serializer_is_a_type_error() -> None:
    with pytest.raises(TypeError, match='encode'):
        lookup(5)


def test_a_type_that_nothing_decodes_into_is_found_at_the_declaration() -> None:
    with pytest.raises(TypeError):
        value_codec('json', lambda: 5)


def test_a_codec_of_ones_own_is_registered_by_name() -> None:
    serializers.register('reversed', Reversed())
    codec = value_codec('reversed|binary', int)

    assert codec.decode(codec.encode(123) or b'') == 123
    assert value_codec('reversed').encode(123) == b'321'
    assert value_codec('reversed').encode(None) is None
    with pytest.raises(errors.DecodeError, match='invalid literal'):
        value_codec('reversed').decode(b'x')
    with pytest.raises(errors.InvalidBody, match='str'):
        value_codec('reversed', str).decode(b'321')


def test_a_class_is_as_good_as_an_object_of_it() -> None:
    class Reversed:
        def encode(self, value: str) -> bytes:
            return value[::-1].encode()

        def decode(self, body: bytes) -> str:
            return body.decode()[::-1]

    codec = value_codec(Reversed, str)
    assert codec.encode('ab') == b'ba'
    assert codec.decode(b'ba') == 'ab'


def test_an_object_is_used_as_it_is() -> None:
    assert value_codec(Reversed(), int).decode(b'21') == 12
    assert lookup(found := lookup('json')) is found


@pytest.mark.parametrize('name', ['', 'a|b', 'a/b'])
def test_a_name_that_means_something_else_cannot_be_registered(name: str) -> None:
    with pytest.raises(ValueError, match='called'):
        serializers.register(name, Reversed())


def test_yaml_without_its_package_is_told_at_the_declaration(monkeypatch) -> None:
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)

    with pytest.raises(errors.ConfigError, match=r'service-scaffold\[yaml\]'):
        lookup('yaml')


def test_pickle_runs_only_when_asked_for() -> None:
    """A topic with the default serializer never unpickles."""
    with pytest.raises(errors.DecodeError):
        value_codec().decode(pickle.dumps({'a': 1}))
