"""The function of the user: what it declares is what it is given."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, get_args, get_origin

from service_scaffold import codecs, options
from service_scaffold.apps.distributed.message import TopicMessage

Function = Callable[..., Any]
INSIDE: ContextVar[object] = ContextVar('inside', default=None)
"""The application one of whose functions is being called."""

SENDER_NAMES = ('socket', 'publisher', 'message_builder', 'state', 'app')
RECEIVER_NAMES = ('message', *SENDER_NAMES)

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY,)
_COLLECTS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Callback:
    """A function that is given, by name, what it declares.

    A coroutine function is awaited; a plain one runs in a thread.

    Args:
        function: The function.
        known: The names that there is something for.

    Attributes:
        names: Those of them that the function declares.
        value_type: `T` where it declares a `TopicMessage[T]`.

    Raises:
        TypeError: It declares what nobody gives, or cannot be called with names.
    """

    def __init__(self, function: Function, known: Iterable[str]) -> None:
        self.function = function
        self._runs_in_loop = _is_coroutine_function(function)
        if not callable(function):
            raise TypeError(f'{function!r} is no function')
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise TypeError(f'{name_of(function)} yields: publish with its socket instead')
        parameters = inspect.signature(function).parameters.values()
        self.names = tuple(_declared(function, parameters, tuple(known)))
        self.value_type = _value_type(function) if 'message' in self.names else None
        codecs.Decoder(self.value_type)  # what cannot be decoded into is said where it stands

    async def __call__(self, given: Mapping[str, Any]) -> Any:
        """Call it with those of `given` that it declares."""
        arguments = {name: given[name] for name in self.names}
        token = INSIDE.set(given.get('app'))
        try:
            if self._runs_in_loop:
                return await self.function(**arguments)
            result = await asyncio.to_thread(self.function, **arguments)
            return await result if inspect.isawaitable(result) else result
        finally:
            INSIDE.reset(token)


def name_of(function: Function) -> str:
    """Return the name of a function, for names of groups and in messages."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, '__name__', None) or type(function).__name__


def refuse(unknown: Mapping[str, object], known: Iterable[str]) -> None:
    """Raise TypeError for keywords that nobody knows, with the nearest that somebody does."""
    for name in unknown:
        raise TypeError(f'unknown keyword {name!r}{options.nearest(name, known)}')


def _declared(
    function: Function, parameters: Iterable[inspect.Parameter], known: tuple[str, ...]
) -> Iterable[str]:
    for parameter in parameters:
        if parameter.kind in _COLLECTS:
            continue  # they declare nothing
        if parameter.kind in _BY_POSITION:
            raise TypeError(
                f'{name_of(function)}: arguments are given by name, and {parameter.name!r} takes'
                ' none'
            )
        if parameter.name in known:
            yield parameter.name
        elif parameter.default is parameter.empty:
            raise TypeError(
                f'{name_of(function)} declares {parameter.name!r}, for which there is'
                f' nothing{options.nearest(parameter.name, known)}; known are {", ".join(known)}'
            )


def _is_coroutine_function(function: Function) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    call = getattr(function, '__call__', None)  # noqa: B004 - the method itself is wanted
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _value_type(function: Function) -> Any:
    annotation = inspect.signature(function).parameters['message'].annotation
    if isinstance(annotation, str):
        if '[' not in annotation:
            return None
        target = inspect.unwrap(function)
        while isinstance(target, functools.partial):
            target = target.func
        if not hasattr(target, '__globals__'):  # an object that can be called
            target = type(target).__call__
        names = getattr(target, '__globals__', {})
        try:
            annotation = eval(annotation, names)
        except NameError as error:
            raise TypeError(
                f'Cannot find the type {error.name!r} that {name_of(function)} declares for its'
                ' message; define it at module level'
            ) from error
    if get_origin(annotation) is not TopicMessage:
        return None
    return get_args(annotation)[0]
