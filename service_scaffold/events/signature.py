"""The type that a handler declares for its message."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def message_type(handler: Callable[..., Any]) -> Any:
    """Return the annotation of a handler's third parameter, None if it has none.

    Raises:
        TypeError: The handler cannot be called with three arguments, or its annotation names
            something that cannot be found.
    """
    target = handler
    while isinstance(target, functools.partial):
        target = target.func
    try:
        signature = inspect.signature(handler, eval_str=True)
    except NameError as error:
        raise TypeError(
            f'Cannot find the type {error.name!r} that {_name(target)} declares for its message;'
            ' define it at module level'
        ) from error
    except ValueError:  # a builtin: nothing is declared
        return None
    try:
        bound = signature.bind(None, None, None)
    except TypeError:
        raise TypeError(
            f'{_name(target)}{signature} cannot handle messages: it must take'
            ' (subscription, key, message)'
        ) from None
    return _third(signature, bound)


def _third(signature: inspect.Signature, bound: inspect.BoundArguments) -> Any:
    for taken, name in enumerate(bound.arguments, start=1):
        parameter = signature.parameters[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            return None
        if taken == 3:
            empty = parameter.annotation is parameter.empty
            return None if empty else parameter.annotation
    return None


def _name(handler: Callable[..., Any]) -> str:
    return getattr(handler, '__qualname__', None) or repr(handler)
