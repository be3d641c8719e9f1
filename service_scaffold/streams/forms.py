"""How values become bytes: one class for each form."""

from __future__ import annotations

import base64
import binascii
import pickle
from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple, Protocol

import msgspec

from service_scaffold import codecs, errors

Encode = Callable[[Any], bytes | None]
Decode = Callable[[bytes], Any]

UNTYPED = (None, Any, object)
"""Annotations that say nothing."""
_RAW = (bytes, bytearray, memoryview)


class Serializer(Protocol):
    """Turns values into bytes, and back into a declared type."""

    def encode(self, value: Any) -> bytes | None:
        """Return the bytes of `value`, None for None; raises EncodeError."""

    def decoder(self, annotation: Any) -> Decode:
        """Return the function that decodes into `annotation`; None takes whatever comes.

        The function raises DecodeError, or InvalidBody if the value is of another type.

        Raises:
            TypeError: Nothing can be decoded into `annotation`.
        """


class Coder(NamedTuple):
    """A serializer at work on one declared type.

    Attributes:
        encode: Value to bytes, None to None; raises EncodeError.
        decode: Bytes to value; raises DecodeError.
    """

    encode: Encode
    decode: Decode


class CodecSerializer:
    """What a codec encodes; decoded into the declared type.

    Args:
        codec: Its `encode` and `decode` work on one content type, whatever the type.
        content_type: Under which it is registered with `codecs`, if it is.
    """

    def __init__(self, codec: codecs.Codec, content_type: str | None = None) -> None:
        self._codec = codec
        self._encode = codec.encode
        self._content_type = content_type

    def encode(self, value: Any) -> bytes | None:
        if value is None:
            return None
        if isinstance(value, _RAW):
            return bytes(value)
        return self._encode(value)

    def decoder(self, annotation: Any) -> Decode:
        decoder = codecs.Decoder(annotation)
        content_type = self._content_type
        if content_type == codecs.JSON:
            return decoder.decode
        if content_type is not None:
            return lambda body: decoder.decode(body, content_type)
        return self._own_decoder(decoder)

    def _own_decoder(self, decoder: codecs.Decoder) -> Decode:
        decode_body = self._codec.decode

        def decode(body: bytes) -> Any:
            try:
                value = decode_body(body)
            except errors.DecodeError:
                raise
            except Exception as error:  # a codec of somebody's own may raise anything
                raise errors.DecodeError(f'Cannot be decoded: {error}') from error
            return decoder.convert(value)

        return bytes if decoder.annotation is bytes else decode


class Text(CodecSerializer):
    """Text, which may stand for a number or a date: no quotes tell them apart."""

    def decoder(self, annotation: Any) -> Decode:
        decode_text = self._codec.decode
        if annotation is str or annotation in UNTYPED:
            return decode_text
        decoder = codecs.Decoder(annotation)

        def decode(body: bytes) -> Any:
            text = decode_text(body)
            try:
                return msgspec.convert(text, annotation, strict=False)
            except (msgspec.ValidationError, TypeError) as error:
                raise decoder.failure(error) from error

        return bytes if annotation is bytes else decode


class Raw:
    """Bytes as they are; text for those who declare str."""

    def encode(self, value: Any) -> bytes | None:
        if value is None:
            return None
        if isinstance(value, str):
            return value.encode()
        encoded: bytes = _BINARY.encode(value)
        return encoded

    def decoder(self, annotation: Any) -> Decode:
        if annotation is bytes or annotation in UNTYPED:
            return bytes
        if annotation is str:
            return _TEXT.decode
        raise TypeError(f'raw bytes cannot become {annotation!r}; declare bytes or str')


class Base64:
    """Bytes as base64."""

    def encode(self, value: Any) -> bytes | None:
        body = RAW.encode(value)
        return None if body is None else base64.b64encode(body)

    def decoder(self, annotation: Any) -> Decode:
        inner = RAW.decoder(annotation)

        def decode(body: bytes) -> Any:
            try:
                plain = base64.b64decode(body, validate=True)
            except binascii.Error as error:
                raise errors.DecodeError(f'Not valid base64: {error}') from error
            return inner(plain)

        return decode


class Pickle:
    """Any value of Python."""

    def encode(self, value: Any) -> bytes | None:
        if value is None:
            return None
        try:
            return pickle.dumps(value)
        except Exception as error:  # a class may raise anything from __reduce__
            raise errors.EncodeError(f'Cannot pickle {type(value).__name__}: {error}') from error

    def decoder(self, annotation: Any) -> Decode:
        convert = codecs.Decoder(annotation).convert

        def decode(body: bytes) -> Any:
            try:
                value = pickle.loads(body)
            except Exception as error:  # damaged bytes may raise anything
                raise errors.DecodeError(f'Not a valid pickle: {error}') from error
            return convert(value)

        return decode


class Chain:
    """Serializers one after the other: the first takes the value, the others bytes."""

    def __init__(self, links: list[Serializer]) -> None:
        self._links = links

    def encode(self, value: Any) -> bytes | None:
        body = value
        for link in self._links:
            body = link.encode(body)
        encoded: bytes | None = body
        return encoded

    def decoder(self, annotation: Any) -> Decode:
        first, *others = self._links
        steps = [*(link.decoder(bytes) for link in reversed(others)), first.decoder(annotation)]
        return lambda body: reduce(lambda value, step: step(value), steps, body)


class Keys:
    """Keys without a declared type: text and bytes as they are, anything else as JSON."""

    def encode(self, value: Any) -> bytes | None:
        if isinstance(value, str):
            return value.encode()
        return JSON.encode(value)

    def decoder(self, annotation: Any) -> Decode:
        return _text_or_bytes


def _text_or_bytes(body: bytes) -> str | bytes:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body


def coded(content_type: str) -> CodecSerializer:
    """Return the serializer of a content type."""
    return CodecSerializer(codecs.lookup(content_type), codecs.essence(content_type))


_BINARY = codecs.lookup(codecs.BINARY)
_TEXT = codecs.lookup(codecs.TEXT)
RAW = Raw()
JSON = coded(codecs.JSON)
