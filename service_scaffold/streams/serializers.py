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

import difflib
import importlib.util
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from service_scaffold import codecs, errors
from service_scaffold.streams import records
from service_scaffold.streams.forms import (
    JSON,
    RAW,
    UNTYPED,
    Base64,
    Chain,
    CodecSerializer,
    Coder,
    Keys,
    Pickle,
    Serializer,
    Text,
    coded,
)

_SERIALIZERS: dict[str, Serializer] = {
    'json': JSON,
    'msgpack': coded('application/msgpack'),
    'yaml': coded('application/yaml'),
    'text': Text(codecs.lookup(codecs.TEXT)),
    'raw': RAW,
    'binary': Base64(),
    'pickle': Pickle(),
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
        return links[0] if len(links) == 1 else Chain(links)
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
        serializer = records.serializer_of(annotation) or JSON
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
    if annotation in UNTYPED:
        return Keys()
    plain = annotation
    while hasattr(plain, '__supertype__') or get_origin(plain) is Annotated:
        plain = plain.__supertype__ if hasattr(plain, '__supertype__') else get_args(plain)[0]
    if plain is str:
        return _SERIALIZERS['text']
    return RAW if plain is bytes else JSON


def _named(name: str) -> Serializer:
    if '/' in name:
        try:
            return coded(name)
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
