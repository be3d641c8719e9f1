"""Bodies into the declared type."""

from __future__ import annotations

import dataclasses
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from service_scaffold import codecs, errors


class Struct(msgspec.Struct):
    litres: int


@dataclasses.dataclass
class Data:
    litres: int


class Typed(TypedDict):
    litres: int


class Model(pydantic.BaseModel):
    litres: int


TYPES = [Struct, Data, Typed, Model]


@pytest.mark.parametrize('kind', TYPES)
@pytest.mark.parametrize('content_type', [None, 'application/json', 'application/msgpack'])
def test_each_kind_of_type_is_decoded_and_encoded(kind: Any, content_type: str | None) -> None:
    value = kind(litres=3)
    body, sent_as = codecs.encode(value, content_type)
    decoded = codecs.Decoder(kind).decode(body, sent_as)
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize('kind', TYPES)
def test_a_wrong_shape_is_invalid_and_names_the_field(kind: Any) -> None:
    for content_type in (None, 'application/msgpack'):
        body, _ = codecs.encode({'litres': 'many'}, content_type)
        with pytest.raises(errors.InvalidBody, match=r'\$?\.?litres'):
            codecs.Decoder(kind).decode(body, content_type)
    with pytest.raises(errors.DecodeError) as raised:
        codecs.Decoder(kind).decode(b'{')
    assert not isinstance(raised.value, errors.InvalidBody)


@pytest.mark.parametrize('untyped', [None, Any, object])
def test_undeclared_takes_whatever_comes(untyped: Any) -> None:
    assert codecs.Decoder(untyped).decode(b'[1]') == [1]
    assert codecs.Decoder(untyped).decode(b'\x00', 'application/octet-stream') == b'\x00'


def test_bytes_get_the_raw_body() -> None:
    for content_type in (None, 'application/json', 'application/unknown'):
        assert codecs.Decoder(bytes).decode(b'{', content_type) == b'{'


def test_str_is_a_json_string_or_the_text() -> None:
    assert codecs.Decoder(str).decode(b'"a"') == 'a'
    assert codecs.Decoder(str).decode(b'"a"', 'text/plain') == '"a"'
    with pytest.raises(errors.InvalidBody):
        codecs.Decoder(str).decode(b'1')


def test_containers_are_validated() -> None:
    assert codecs.Decoder(dict[str, int]).decode(b'{"a":1}') == {'a': 1}
    with pytest.raises(errors.InvalidBody, match=r'\$\[\.\.\.\]'):
        codecs.Decoder(dict[str, int]).decode(b'{"a":"b"}')


def test_a_type_that_nothing_can_be_decoded_into_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        codecs.Decoder(Struct | Data)
