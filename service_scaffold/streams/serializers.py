"""Serializers: keys and values of topics to bytes and back, chosen by name.

| Name | Bytes |
|---|---|
| `json` (values by default) | JSON |
| `msgpack` | MessagePack |
| `yaml` | YAML; needs the extra `yaml` |
| `text` | UTF-8; numbers and dates as their `str()` |
| `raw` | as they are |
| `binary` | base64 |
| `pickle` | pickle: whoever can write to the topic can run code here |
| a content type | what `codecs` has registered for it |
| `json\\|binary` | one after the other; decoded from the right |

None is a tombstone and has no bytes. Bytes are taken as encoded already, but for `pickle`. Without
a name a key of type str is text, of type bytes raw, of any other JSON; a key without a type is
encoded like that by what it is, and decoded as text, or bytes if it is not UTF-8.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import importlib.util
import pickle
from collections.abc import Callable
from functools import reduce
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Protocol, Union, get_args, get_origin

import msgspec

from service_scaffold import codecs, errors
from service_scaffold.streams import records

Encode = Callable[[Any], bytes | None]
Decode = Callable[[bytes], Any]

_UNTYPED = (None, Any, object)
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


class _Text(CodecSerializer):
    """Text, which may stand for a number or a date: no quotes tell them apart."""

    def decoder(self, annotation: Any) -> Decode:
        decode_text = self._codec.decode
        if annotation is str or annotation in _UNTYPED:
            return decode_text
        decoder = codecs.Decoder(annotation)

        def decode(body: bytes) -> Any:
            text = decode_text(body)
            try:
                return msgspec.convert(text, annotation, strict=False)
            except (msgspec.ValidationError, TypeError) as error:
                raise decoder.failure(error) from error

        return bytes if annotation is bytes else decode


class _Raw:
    """Bytes as they are; text for those who declare str."""

    def encode(self, value: Any) -> bytes | None:
        if value is None:
            return None
        if isinstance(value, str):
            return value.encode()
        encoded: bytes = _BINARY.encode(value)
        return encoded

    def decoder(self, annotation: Any) -> Decode:
        if annotation is bytes or annotation in _UNTYPED:
            return bytes
        if annotation is str:
            return _TEXT.decode
        raise TypeError(f'raw bytes cannot become {annotation!r}; declare bytes or str')


class _Base64:
    """Bytes as base64."""

    def encode(self, value: Any) -> bytes | None:
        body = _RAW_BYTES.encode(value)
        return None if body is None else base64.b64encode(body)

    def decoder(self, annotation: Any) -> Decode:
        inner = _RAW_BYTES.decoder(annotation)

        def decode(body: bytes) -> Any:
            try:
                plain = base64.b64decode(body, validate=True)
            except binascii.Error as error:
                raise errors.DecodeError(f'Not valid base64: {error}') from error
            return inner(plain)

        return decode


class _PickleCodec:
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


class _Chain:
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


class _Keys:
    """Keys without a declared type: text and bytes as they are, anything else as JSON."""

    def encode(self, value: Any) -> bytes | None:
        if isinstance(value, str):
            return value.encode()
        return _JSON.encode(value)

    def decoder(self, annotation: Any) -> Decode:
        return _text_or_bytes


def _text_or_bytes(body: bytes) -> str | bytes:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body


def _coded(content_type: str) -> CodecSerializer:
    return CodecSerializer(codecs.lookup(content_type), codecs.essence(content_type))


_BINARY = codecs.lookup(codecs.BINARY)
_TEXT = codecs.lookup(codecs.TEXT)
_RAW_BYTES = _Raw()
_JSON = _coded(codecs.JSON)

_SERIALIZERS: dict[str, Serializer] = {
    'json': _JSON,
    'msgpack': _coded('application/msgpack'),
    'yaml': _coded('application/yaml'),
    'text': _Text(_TEXT),
    'raw': _RAW_BYTES,
    'binary': _Base64(),
    'pickle': _PickleCodec(),
}


def register(name: str, serializer: object) -> None:
    """Use `serializer` for topics that ask for `name`; replaces the one registered before.

    Args:
        name: Without `|` and `/`, which mean chains and content types.
        serializer: A `Serializer`, or a codec: an object with `encode(value) -> bytes` and
            `decode(bytes) -> value`; what it decodes is converted into the declared type.
    """
    if not name or '|' in name or '/' in name:
        raise ValueError(f'A serializer cannot be called {name!r}')
    _SERIALIZERS[name] = lookup(serializer)


def lookup(serializer: object) -> Serializer:
    """Return the serializer of a name, a chain of names or a content type; or one from an object.

    A class is called without arguments.

    Raises:
        ConfigError: The name is unknown, or needs a package that is not installed.
        TypeError: The object is neither a serializer nor a codec.
    """
    if isinstance(serializer, type):
        serializer = serializer()
    if isinstance(serializer, str):
        links = [_named(name.strip()) for name in serializer.split('|')]
        return links[0] if len(links) == 1 else _Chain(links)
    if hasattr(serializer, 'encode') and hasattr(serializer, 'decoder'):
        return serializer
    if hasattr(serializer, 'encode') and hasattr(serializer, 'decode'):
        return CodecSerializer(serializer)
    raise TypeError(f'{serializer!r} is no serializer: it needs encode, and decode or decoder')


def value_codec(serializer: object = None, annotation: Any = None) -> Coder:
    """Return how values of a declared type are coded.

    Args:
        serializer: See `lookup`; None means the `serializer` option of a Record, else `json`.

    Raises:
        ConfigError: The serializer is unknown.
        TypeError: The serializer cannot decode into `annotation`.
    """
    if serializer is None:
        serializer = records.serializer_of(annotation) or _JSON
    found = lookup(serializer)
    return Coder(found.encode, found.decoder(annotation))


def key_codec(serializer: object = None, annotation: Any = None) -> Coder:
    """Return how keys of a declared type are coded.

    Args:
        serializer: See `lookup`; None means the rule for keys in the module's docstring.

    Raises:
        ConfigError: The serializer is unknown.
        TypeError: The serializer cannot decode into `annotation`.
    """
    plain = _without_none(annotation)
    found = _for_key(plain) if serializer is None else lookup(serializer)
    return Coder(found.encode, found.decoder(plain))


def _without_none(annotation: Any) -> Any:
    """Return what a key is that there is: one of `str | None` is a str."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    left = tuple(one for one in get_args(annotation) if one is not NoneType)
    return Union[left] if len(left) < len(get_args(annotation)) else annotation  # noqa: UP007


def _for_key(annotation: Any) -> Serializer:
    if annotation in _UNTYPED:
        return _Keys()
    plain = annotation
    while hasattr(plain, '__supertype__') or get_origin(plain) is Annotated:
        plain = plain.__supertype__ if hasattr(plain, '__supertype__') else get_args(plain)[0]
    if plain is str:
        return _SERIALIZERS['text']
    return _RAW_BYTES if plain is bytes else _JSON


def _named(name: str) -> Serializer:
    if '/' in name:
        try:
            return _coded(name)
        except errors.CodecError as error:
            raise errors.ConfigError(str(error)) from error
    if name == 'yaml' and importlib.util.find_spec('yaml') is None:
        raise errors.ConfigError(
            'The serializer yaml needs a package: pip install service-scaffold[yaml]'
        )
    if name not in _SERIALIZERS:
        known = sorted(_SERIALIZERS)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f'did you mean {near[0]!r}?' if near else f'known are {", ".join(known)}'
        raise errors.ConfigError(f'No serializer is called {name!r}; {hint}')
    return _SERIALIZERS[name]
