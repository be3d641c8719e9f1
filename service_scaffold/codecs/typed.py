"""Values out of what is published, and into the type that a handler declares."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec

from service_scaffold import errors
from service_scaffold.codecs import base, builtin, protobuf  # noqa: F401 - registers the codecs

_RAW = (bytes, bytearray, memoryview)
_UNTYPED = (None, Any, object, msgspec.UNSET)


def encode(value: object, content_type: str | None = None) -> tuple[bytes, str]:
    """Return the body of `value` and its content type.

    Without a content type, bytes go out raw as `application/octet-stream` and everything else,
    strings included, as JSON. Bytes go out as they are under any content type.

    Raises:
        EncodeError: The content type cannot express the value.
        CodecError: Nothing is registered for the content type.
    """
    if isinstance(value, _RAW):
        return bytes(value), content_type or base.BINARY
    if content_type is None:
        return _JSON.encode(value), base.JSON
    return base.lookup(content_type).encode(value), content_type


_JSON = base.lookup(base.JSON)


def decode(body: bytes, content_type: str | None = None) -> object:
    """Return the value of a body whose type nobody declared.

    Raises:
        DecodeError: The bytes are not of the content type, or nothing is registered for it.
    """
    try:
        codec = base.lookup(content_type)
    except errors.DecodeError:
        raise
    except errors.CodecError as error:
        raise errors.DecodeError(str(error)) from error
    try:
        return codec.decode(body)
    except errors.DecodeError:
        raise
    except Exception as error:  # a codec of somebody's own may raise anything
        raise errors.DecodeError(f'Not valid {base.essence(content_type)}: {error}') from error


class Decoder:
    """Turns bodies into values of one declared type.

    Args:
        annotation: `bytes` gets the raw body; `str` a JSON string, or the text of `text/plain`;
            a `msgspec.Struct`, dataclass, TypedDict, pydantic model, generated Protocol Buffers
            class or builtin container is validated; None, `object` and `Any` take whatever comes.

    Attributes:
        json: Decodes a JSON body, the fast path; raises what `failure` can translate.

    Raises:
        TypeError: The type cannot be decoded into.
    """

    def __init__(self, annotation: Any = None) -> None:
        self.annotation = annotation
        self._model = annotation if hasattr(annotation, 'model_validate_json') else None
        self._protobuf = isinstance(annotation, type) and protobuf.is_message(annotation)
        self.json: Callable[[bytes], Any]
        if annotation is bytes:
            self.json = bytes
        elif self._model is not None:
            self.json = self._model.model_validate_json
        elif self._protobuf:
            self.json = functools.partial(protobuf.parse_json, annotation)
        elif annotation in _UNTYPED:
            self.json = msgspec.json.Decoder().decode
        else:
            self.json = msgspec.json.Decoder(annotation).decode

    def decode(self, body: bytes, content_type: str | None = None) -> Any:
        """Return the value of a body.

        Raises:
            DecodeError: The bytes are not of the content type.
            InvalidBody: The value is not of the declared type; the message names the field.
        """
        try:
            if content_type is None or base.essence(content_type) == base.JSON:
                return self.json(body)
            if self.annotation is bytes:
                return body
            if self._protobuf and base.essence(content_type) in protobuf.CONTENT_TYPES:
                return protobuf.parse(self.annotation, body)
            return self._convert(decode(body, content_type))
        except errors.CodecError:
            raise
        except (ValueError, TypeError, msgspec.MsgspecError, RecursionError) as error:
            raise self.failure(error) from error

    def convert(self, value: object) -> Any:
        """Return a value that is decoded already, as one of the declared type.

        Raises:
            InvalidBody: It does not fit; the message names the field.
        """
        try:
            return self._convert(value)
        except (ValueError, TypeError, msgspec.MsgspecError, RecursionError) as error:
            raise self.failure(error) from error

    def _convert(self, value: object) -> object:
        if self.annotation in _UNTYPED:
            return value
        if self._model is not None:
            return self._model.model_validate(value)
        if self._protobuf:
            return protobuf.from_plain(self.annotation, value)
        return msgspec.convert(value, self.annotation)

    def failure(self, error: Exception) -> errors.DecodeError:
        """Translate what `json` raised: `InvalidBody` for a wrong shape, else `DecodeError`."""
        if isinstance(error, errors.DecodeError):
            return error
        if isinstance(error, msgspec.ValidationError):
            return errors.InvalidBody(f'Not a {self._name()}: {error}')
        details = getattr(error, 'errors', None)
        if callable(details) and (problems := details()):  # pydantic's ValidationError
            if problems[0].get('type') == 'json_invalid':
                return errors.DecodeError(f'Not valid JSON: {problems[0].get("msg")}')
            texts = (
                f'{problem.get("msg")} - at `$.{".".join(map(str, problem.get("loc", ())))}`'
                for problem in problems
            )
            return errors.InvalidBody(f'Not a {self._name()}: {"; ".join(texts)}')
        if isinstance(error, TypeError):
            return errors.InvalidBody(f'Not a {self._name()}: {error}')
        return errors.DecodeError(f'Not valid JSON: {error}')

    def _name(self) -> str:
        return getattr(self.annotation, '__name__', None) or str(self.annotation)
