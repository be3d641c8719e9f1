"""The codec port, and the table of codecs by content type."""

from __future__ import annotations

from typing import Protocol

from service_scaffold import errors

JSON = 'application/json'
TEXT = 'text/plain'
BINARY = 'application/octet-stream'


class Codec(Protocol):
    """Turns values into bytes of one content type, and back."""

    def encode(self, value: object) -> bytes:
        """Return the bytes of `value`; raises EncodeError."""

    def decode(self, body: bytes) -> object:
        """Return the value of `body`; raises DecodeError."""


_CODECS: dict[str, Codec] = {}


def register(content_type: str, codec: Codec) -> None:
    """Use `codec` for bodies of `content_type`; replaces the one registered before."""
    _CODECS[essence(content_type)] = codec


def essence(content_type: str | None) -> str:
    """Return the MIME type without parameters, in lower case; None means JSON."""
    if content_type is None or content_type == JSON:
        return JSON
    return content_type.partition(';')[0].strip().lower() or JSON


def lookup(content_type: str | None) -> Codec:
    """Return the codec of a content type; `…+json` is JSON.

    Raises:
        CodecError: No codec is registered for it.
    """
    name = essence(content_type)
    codec = _CODECS.get(name)
    if codec is None and name.endswith('+json'):
        codec = _CODECS[JSON]
    if codec is None:
        known = ', '.join(sorted(_CODECS))
        raise errors.CodecError(
            f'No codec for the content type {content_type!r}; known are {known}.'
            ' Add yours with codecs.register(content_type, codec)'
        )
    return codec
