"""Protocol Buffers: bodies by generated message classes.

A class is known by what it has, so that nothing is imported before the first body needs it; the
package `protobuf` comes with the extra of that name.
"""

from __future__ import annotations

import importlib
from typing import Any

from service_scaffold import errors
from service_scaffold.codecs import base

CONTENT_TYPES = ('application/protobuf', 'application/x-protobuf')


def is_message(value: object) -> bool:
    """Tell whether a value is a generated message, or a class of them."""
    return hasattr(value, 'SerializeToString') and hasattr(value, 'DESCRIPTOR')


def parse(message_class: Any, body: bytes) -> Any:
    """Return a body as a message of a generated class.

    Raises:
        DecodeError: It is none.
    """
    try:
        return message_class.FromString(body)
    except Exception as error:  # the class of the error depends on the implementation
        raise errors.DecodeError(f'Not a {message_class.__name__}: {error}') from error


def parse_json(message_class: Any, body: bytes) -> Any:
    """Return a JSON body as a message of a generated class.

    Raises:
        DecodeError: It is not JSON.
        InvalidBody: It is not of the shape that the class declares.
    """
    json_format = _json_format()
    try:
        return json_format.Parse(body, message_class())
    except json_format.ParseError as error:
        failure = errors.DecodeError if _is_syntax(error) else errors.InvalidBody
        raise failure(f'Not a {message_class.__name__}: {error}') from error
    except (ValueError, RecursionError) as error:
        raise errors.DecodeError(f'Not valid JSON: {error}') from error


def from_plain(message_class: Any, value: object) -> Any:
    """Return plain data, as of another content type, as a message of a generated class.

    Raises:
        InvalidBody: It is not of the shape that the class declares.
    """
    json_format = _json_format()
    try:
        return json_format.ParseDict(value, message_class())
    except (json_format.ParseError, AttributeError, TypeError, ValueError) as error:
        raise errors.InvalidBody(f'Not a {message_class.__name__}: {error}') from error


def to_plain(message: Any) -> object:
    """Return a message as plain data, in its JSON form."""
    return _json_format().MessageToDict(message, preserving_proto_field_name=True)


class ProtobufCodec:
    """Protocol Buffers. What is to be decoded must be declared: its bytes do not tell."""

    def encode(self, value: Any) -> bytes:
        if not is_message(value) or isinstance(value, type):
            raise errors.EncodeError(
                f'Cannot encode {type(value).__name__} as Protocol Buffers: only messages of'
                ' generated classes are'
            )
        try:
            body: bytes = value.SerializeToString()
        except Exception as error:  # a required field is missing
            raise errors.EncodeError(f'Cannot encode {type(value).__name__}: {error}') from error
        return body

    def decode(self, body: bytes) -> object:
        raise errors.DecodeError(
            'A Protocol Buffers body can only be decoded by who declares its message class'
        )


def _json_format() -> Any:
    try:
        return importlib.import_module('google.protobuf.json_format')
    except ModuleNotFoundError as error:
        raise errors.CodecError(
            "This content type needs the package 'protobuf': pip install service-scaffold[protobuf]"
        ) from error


def _is_syntax(error: Exception) -> bool:
    return 'Failed to load JSON' in str(error)


for _name in CONTENT_TYPES:
    base.register(_name, ProtobufCodec())
