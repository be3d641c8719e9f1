"""The codecs that are always there: there and back, and errors of one kind."""

from __future__ import annotations

import dataclasses
import datetime
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_scaffold import codecs, errors

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


class Level(msgspec.Struct):
    litres: float | None = None


@dataclasses.dataclass
class Tank:
    level: Level


@pytest.mark.parametrize('content_type', ['application/json', 'application/msgpack'])
@given(value=VALUES)
def test_there_and_back(content_type: str, value: object) -> None:
    body, sent_as = codecs.encode(value, content_type)
    assert codecs.decode(body, sent_as) == value


@pytest.mark.parametrize('content_type', ['application/yaml', 'application/toml', 'text/yaml'])
def test_yaml_and_toml_there_and_back(content_type: str) -> None:
    value = {'tank': {'litres': 3.5, 'name': 'ü', 'tags': ['a', 'b']}}
    body, sent_as = codecs.encode(value, content_type)
    assert codecs.decode(body, sent_as) == value


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_a_float_that_json_lacks_is_refused_in_whatever_is_typed(value: float) -> None:
    for typed in (
        Level(value),
        Tank(Level(value)),
        [Level(value)],
        {'a': {'b': Tank(Level(value))}},
    ):
        with pytest.raises(errors.EncodeError, match='litres'):
            codecs.encode(typed)
    assert codecs.encode({'litres': value})[0] == b'{"litres":null}'
    assert codecs.encode([Level(None)])[0] == b'[{"litres":null}]'


@pytest.mark.parametrize(
    'content_type',
    ['application/json', 'application/msgpack', 'application/yaml', 'application/toml'],
)
def test_what_cannot_be_encoded_is_an_encode_error(content_type: str) -> None:
    with pytest.raises(errors.EncodeError, match='object'):
        codecs.encode({'a': object()}, content_type)


@pytest.mark.parametrize('value', [None, 3, [{'a': 1}], 'text'])
def test_only_tables_are_toml(value: object) -> None:
    with pytest.raises(errors.EncodeError, match='as TOML: only tables are'):
        codecs.encode(value, 'application/toml')


def test_text_that_is_no_unicode_is_an_encode_error() -> None:
    for content_type in ('text/plain', 'application/json'):
        with pytest.raises(errors.EncodeError):
            codecs.encode('\ud800', content_type)


def test_only_bytes_are_bytes() -> None:
    with pytest.raises(errors.EncodeError, match='only bytes'):
        codecs.encode('text', 'application/octet-stream')
    assert codecs.encode(bytearray(b'x'), 'application/octet-stream')[0] == b'x'


@pytest.mark.parametrize(
    ('body', 'content_type'),
    [
        (b'{', 'application/json'),
        (b'\xff', 'application/json'),
        (b'[' * 100_000, 'application/json'),
        (b'\xc1', 'application/msgpack'),
        (b'a: [', 'application/yaml'),
        (b'2001-99-99', 'application/yaml'),
        (b'\xff\xfe\xff', 'application/yaml'),
        (b'= 1', 'application/toml'),
        (b'\xff', 'application/toml'),
        (b'\xff', 'text/plain'),
    ],
)
def test_what_cannot_be_decoded_is_a_decode_error(body: bytes, content_type: str) -> None:
    with pytest.raises(errors.DecodeError):
        codecs.decode(body, content_type)


def test_yaml_is_the_safe_subset() -> None:
    with pytest.raises(errors.DecodeError):
        codecs.decode(b'!!python/object/apply:os.getcwd []', 'application/yaml')


def test_dates_go_out_as_text() -> None:
    assert codecs.encode(datetime.date(2026, 1, 2))[0] == b'"2026-01-02"'
