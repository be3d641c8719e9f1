"""The codecs that are always there: JSON, MessagePack, YAML, TOML, text and raw bytes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from service_scaffold import errors
from service_scaffold.codecs import base, protobuf

T = TypeVar('T')


def _foreign(value: Any) -> object:
    """Turn what msgspec does not know into what it knows."""
    if hasattr(value, 'model_dump'):  # a pydantic model
        return value.model_dump(mode='json')
    if protobuf.is_message(value):
        return protobuf.to_plain(value)
    if hasattr(value, 'tolist'):  # a NumPy scalar or array
        return value.tolist()
    raise NotImplementedError(f'{type(value).__name__} is not a type that can be encoded')


_json_encode = msgspec.json.Encoder(enc_hook=_foreign).encode
_json_decode = msgspec.json.Decoder().decode
_msgpack_encode = msgspec.msgpack.Encoder(enc_hook=_foreign).encode
_msgpack_decode = msgspec.msgpack.Decoder().decode

_ENCODE_ERRORS = (
    msgspec.MsgspecError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


def _encoded(encode: Callable[[object], bytes], value: object, name: str) -> bytes:
    try:
        return encode(value)
    except _ENCODE_ERRORS as error:
        raise _failure(value, name, error) from error


def _failure(value: object, name: str, error: Exception) -> errors.EncodeError:
    return errors.EncodeError(f'Cannot encode {type(value).__name__} as {name}: {error}')


def _decoded(decode: Callable[[bytes], T], body: bytes, name: str) -> T:
    try:
        return decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise errors.DecodeError(f'Not valid {name}: {error}') from error


class JsonCodec:
    """JSON. A typed value with a float that JSON lacks is refused; in a plain dict it is null."""

    def encode(self, value: object) -> bytes:
        try:
            body = _json_encode(value)
        except _ENCODE_ERRORS as error:
            raise _failure(value, 'JSON', error) from error
        if b'null' in body:
            _check_typed(value)
        return body

    def decode(self, body: bytes) -> object:
        return _decoded(_json_decode, body, 'JSON')


class MsgpackCodec:
    """MessagePack."""

    def encode(self, value: object) -> bytes:
        return _encoded(_msgpack_encode, value, 'MessagePack')

    def decode(self, body: bytes) -> object:
        return _decoded(_msgpack_decode, body, 'MessagePack')


class YamlCodec:
    """YAML, the safe subset; needs the extra `yaml`."""

    def encode(self, value: object) -> bytes:
        dump = _imported('yaml', 'yaml').safe_dump
        plain = _encoded_builtins(value, 'YAML')
        return _encoded(lambda v: dump(v, sort_keys=False).encode(), plain, 'YAML')

    def decode(self, body: bytes) -> object:
        yaml = _imported('yaml', 'yaml')
        try:
            return yaml.safe_load(body)
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # 2001-99-99 is a ValueError
            raise errors.DecodeError(f'Not valid YAML: {error}') from error


class TomlCodec:
    """TOML; encoding needs the extra `toml`. What has no fields or keys is not TOML."""

    def encode(self, value: object) -> bytes:
        dumps = _imported('tomli_w', 'toml').dumps
        plain = _encoded_builtins(value, 'TOML')
        if not isinstance(plain, dict):
            raise errors.EncodeError(
                f'Cannot encode {type(value).__name__} as TOML: only tables are'
            )
        return _encoded(lambda v: dumps(v).encode(), plain, 'TOML')

    def decode(self, body: bytes) -> object:
        import tomllib  # rarely needed, and not free to load

        return _decoded(lambda raw: tomllib.loads(raw.decode()), body, 'TOML')


class TextCodec:
    """UTF-8 text; anything but a string goes out as its `str()`."""

    def encode(self, value: object) -> bytes:
        try:
            return str(value).encode()
        except _ENCODE_ERRORS as error:
            raise _failure(value, 'text', error) from error

    def decode(self, body: bytes) -> object:
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            raise errors.DecodeError(f'Not valid UTF-8 text: {error}') from error


class BinaryCodec:
    """Bytes as they are."""

    def encode(self, value: object) -> bytes:
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        raise errors.EncodeError(
            f'Cannot encode {type(value).__name__} as {base.BINARY}: only bytes are'
        )

    def decode(self, body: bytes) -> object:
        return body


def _encoded_builtins(value: object, name: str) -> object:
    try:
        return msgspec.to_builtins(value, enc_hook=_foreign)
    except _ENCODE_ERRORS as error:
        raise _failure(value, name, error) from error


def _imported(module: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise errors.CodecError(
            f'This content type needs the package {module!r}: pip install service-scaffold[{extra}]'
        ) from error


def is_typed(value: object) -> bool:
    """Tell whether a value's type declares its fields."""
    return (
        isinstance(value, msgspec.Struct)
        or dataclasses.is_dataclass(value)
        or hasattr(value, 'model_dump')
    )


def _check_typed(value: object) -> None:
    """Refuse floats that JSON lacks in whatever part of a value is typed."""
    if is_typed(value):
        check_finite(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            _check_typed(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            _check_typed(item)


def check_finite(value: object, path: str = '$') -> None:
    """Raise EncodeError naming the first float in `value` that JSON lacks."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise errors.EncodeError(f'Cannot encode {value!r} at `{path}` as JSON')
    elif isinstance(value, Mapping):
        for name, item in value.items():
            check_finite(item, f'{path}.{name}')
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            check_finite(item, f'{path}[{index}]')
    elif isinstance(value, msgspec.Struct):
        check_finite(msgspec.structs.asdict(value), path)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        check_finite({field.name: getattr(value, field.name) for field in fields}, path)
    elif hasattr(value, 'model_dump'):
        check_finite(value.model_dump(), path)


base.register(base.JSON, JsonCodec())
for _name in ('application/msgpack', 'application/x-msgpack', 'application/vnd.msgpack'):
    base.register(_name, MsgpackCodec())
for _name in ('application/yaml', 'application/x-yaml', 'text/yaml'):
    base.register(_name, YamlCodec())
base.register('application/toml', TomlCodec())
base.register(base.TEXT, TextCodec())
base.register(base.BINARY, BinaryCodec())
