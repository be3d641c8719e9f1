"""Answers to requests: what comes back over the event bus, and what the caller makes of it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from service_scaffold import errors

Code = Literal['', 'bad_request', 'unknown_method', 'unavailable', 'failed']


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a method's call came to.

    Attributes:
        code: Why there is no value; '' when there is one.
        value: What the method returned.
        type: Name of the error's class.
        message: The error's text.
        errors: What is wrong with each argument.
    """

    code: Code = ''
    value: Any = None
    type: str = ''
    message: str = ''
    errors: tuple[str, ...] = ()


def answer_to(error: Exception) -> Answer:
    """Return what the caller is told of an error."""
    kind, text = type(error).__name__, str(error)
    if isinstance(error, errors.BadRequest):
        return Answer('bad_request', type=kind, message=text, errors=error.errors)
    if isinstance(error, errors.UnknownMethod):
        return Answer('unknown_method', type=kind, message=text)
    if isinstance(error, errors.AssetFenced | errors.AssetUnavailable):
        return Answer('unavailable', type=kind, message=text)
    return Answer('failed', type=kind, message=text)


def value_of(method: str, body: Any) -> Any:
    """Return the value of an answer.

    Raises:
        BadRequest, UnknownMethod, AssetUnavailable, MethodFailed: As the answer says.
    """
    try:
        answer = msgspec.convert(body, Answer)
    except msgspec.ValidationError as error:
        raise errors.MethodFailed(
            method, 'DecodeError', f'no answer of a method: {error}'
        ) from error
    if not answer.code:
        return answer.value
    if answer.code == 'bad_request':
        raise errors.BadRequest(answer.message, answer.errors)
    if answer.code == 'unknown_method':
        raise errors.UnknownMethod(answer.message)
    if answer.code == 'unavailable':
        raise errors.AssetUnavailable(answer.message)
    raise errors.MethodFailed(method, answer.type, answer.message)
