"""Methods of an asset: what they take, by their signature, and how they are called."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from service_scaffold import errors
from service_scaffold.assets.record import check_attribute_id, is_method_name

METHOD = '__asset_method__'
"""Where `method` leaves its settings on a function."""
RESERVED = ('timeout_s', 'queue')
"""Keywords of a request itself."""

F = TypeVar('F', bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Settings:
    """What `method` was given."""

    name: str | None = None
    description: str | None = None


class Parameter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One argument of a method, as its contract tells it.

    Attributes:
        name: Its keyword.
        type: The type, as it is written.
        required: Whether it has no default.
        default: What it is when it is not given, if JSON can tell.
    """

    name: str
    type: str
    required: bool = True
    default: Any = None


class Contract(msgspec.Struct, frozen=True):
    """What others know of a method: the value of its attribute.

    Attributes:
        description: What it does.
        arguments: What it takes.
        returns: The type of what it returns, as it is written.
    """

    description: str
    arguments: tuple[Parameter, ...]
    returns: str


def method(
    function: F | None = None, *, name: str | None = None, description: str | None = None
) -> Any:
    """Let others call a function of an asset: `@assets.method` or `@assets.method(…)`.

    It may be a coroutine function or a plain one, which runs in a thread. Its arguments are
    checked against the types in its signature before it is called; what it returns is the answer.

    Args:
        name: What others call it by; the default is its own name.
        description: What it does; the default is the first line of its docstring.
    """

    def mark(function: F) -> F:
        if not callable(function):
            raise TypeError(f'@assets.method takes a function, not {function!r}')
        setattr(function, METHOD, Settings(name, description))
        return function

    return mark if function is None else mark(function)


class Method:
    """One function that others may call.

    Attributes:
        name: What others call it by.
        contract: What others know of it.
    """

    def __init__(self, function: Callable[..., Any], name: str, description: str | None) -> None:
        self.name = check_attribute_id(name)
        if not is_method_name(name):
            raise ValueError(f'Not a name of a method: {name!r}; it must not hold a dot')
        self._function = function
        self._parameters = _parameters(function, name)
        text = description if description is not None else inspect.getdoc(function) or ''
        self.contract = Contract(
            text.partition('\n')[0],
            tuple(map(_told, self._parameters.values())),
            _written(_signature(function).return_annotation),
        )

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        settings: Settings | None = None,
        *,
        name: str | None = None,
    ) -> Method:
        """Return the method that a function is, decorated or not; `name` goes before all others."""
        found: Settings = settings or getattr(function, METHOD, None) or Settings()
        own = getattr(function, '__name__', type(function).__name__)
        return cls(function, name or found.name or own, found.description)

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as the function wants them.

        Raises:
            BadRequest: Some are missing, unknown or of a wrong type; `errors` lists them all.
        """
        wrong = [f'{name}: unknown argument' for name in arguments if name not in self._parameters]
        found = {}
        for name, parameter in self._parameters.items():
            if name in arguments:
                try:
                    found[name] = msgspec.convert(arguments[name], _type(parameter))
                except msgspec.ValidationError as error:
                    wrong.append(f'{name}: {error}')
            elif parameter.default is parameter.empty:
                wrong.append(f'{name}: missing, expected {_written(parameter.annotation)}')
        if wrong:
            raise errors.BadRequest(f'{self.name}: {"; ".join(wrong)}', tuple(wrong))
        return found

    async def call(self, arguments: Mapping[str, Any], pool: Executor) -> Any:
        """Call the function with checked arguments, a plain one in `pool`."""
        if inspect.iscoroutinefunction(self._function):
            return await self._function(**arguments)
        call = functools.partial(_called, self._function, arguments)
        answer = await asyncio.get_running_loop().run_in_executor(pool, call)
        return await answer if inspect.isawaitable(answer) else answer


def _called(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        return function(**arguments)
    except StopIteration as error:  # which no future can hold
        raise RuntimeError(f'StopIteration({error.value!r})') from error


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except NameError as error:
        raise TypeError(
            f'Cannot find the type {error.name!r} in the signature of {function!r};'
            ' define it at module level'
        ) from error


def _parameters(function: Callable[..., Any], name: str) -> dict[str, inspect.Parameter]:
    found = dict(_signature(function).parameters)
    for parameter in found.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f'{name}: {parameter} cannot be given by name, as others have to')
        if parameter.name in RESERVED:
            raise TypeError(f'{name}: an argument cannot be named {parameter.name!r}')
    return found


def _type(parameter: inspect.Parameter) -> Any:
    return Any if parameter.annotation is parameter.empty else parameter.annotation


def _told(parameter: inspect.Parameter) -> Parameter:
    if parameter.default is parameter.empty:
        return Parameter(parameter.name, _written(parameter.annotation))
    try:
        default = msgspec.to_builtins(parameter.default)
    except TypeError:
        default = repr(parameter.default)
    return Parameter(parameter.name, _written(parameter.annotation), False, default)


def _written(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return 'any'
    return inspect.formatannotation(annotation)
