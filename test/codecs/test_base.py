"""The table of codecs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service_scaffold import codecs, errors
from service_scaffold.codecs import base


class Reversed:
    """A codec of somebody's own, which does not know our errors."""

    def encode(self, value: object) -> bytes:
        return str(value).encode()[::-1]

    def decode(self, body: bytes) -> object:
        if body == b'bad':
            raise KeyError('own error')
        return body[::-1].decode()


@pytest.fixture
def own() -> Iterator[str]:
    codecs.register('Application/X-Reversed; v=1', Reversed())
    yield 'application/x-reversed'
    del base._CODECS['application/x-reversed']


def test_others_register(own: str) -> None:
    assert codecs.encode('abc', own) == (b'cba', own)
    assert codecs.decode(b'cba', own + '; charset=x') == 'abc'
    assert codecs.Decoder(str).decode(b'cba', own) == 'abc'


def test_whatever_it_raises_is_a_decode_error(own: str) -> None:
    with pytest.raises(errors.DecodeError, match='own error'):
        codecs.decode(b'bad', own)


def test_unknown_is_an_error_that_names_the_known() -> None:
    with pytest.raises(errors.CodecError, match='application/json'):
        codecs.encode(1, 'application/unknown')
    with pytest.raises(errors.DecodeError, match='application/unknown'):
        codecs.decode(b'1', 'application/unknown')


@pytest.mark.parametrize(
    ('content_type', 'expected'),
    [
        (None, 'application/json'),
        ('', 'application/json'),
        ('Text/Plain; charset=utf-8', 'text/plain'),
    ],
)
def test_only_the_type_itself_counts(content_type: str | None, expected: str) -> None:
    assert codecs.essence(content_type) == expected


def test_something_plus_json_is_json() -> None:
    assert codecs.decode(b'1', 'application/problem+json') == 1
