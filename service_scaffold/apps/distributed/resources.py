"""Resources: what a function needs beside its messages, entered before and left after them."""

from __future__ import annotations

import functools
import inspect
import keyword
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import FunctionType, MappingProxyType, MethodType
from typing import Any

NONE: Mapping[str, Any] = MappingProxyType({})
_FACTORIES = (type, FunctionType, MethodType, functools.partial)


class Resources:
    """The state and the resources of one function.

    Args:
        state: Given as it is; a class or a function is called for it at each start.
        resources: By name: context managers, sync or async, or what makes one when it is called,
            which may be a coroutine function. Only the latter can be entered more than once.
        taken: Names that are not free.

    Raises:
        TypeError: A resource is none of that.
        ValueError: A name is taken, or none that a function can declare.
    """

    def __init__(
        self, state: Any = None, resources: Mapping[str, Any] = NONE, taken: tuple[str, ...] = ()
    ) -> None:
        self._state = state
        self._resources = dict(resources)
        for name, resource in self._resources.items():
            _check(name, resource, taken)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the resources."""
        return tuple(self._resources)

    @property
    def renewable(self) -> bool:
        """Whether all of it can be entered again after a failure."""
        return all(not _is_manager(resource) for resource in self._resources.values())

    async def enter(self, stack: AsyncExitStack) -> dict[str, Any]:
        """Enter all into `stack`, in order; return `state` and each entered value by its name.

        Raises:
            Exception: What a resource has raised; the stack leaves those before it.
        """
        given = {'state': await _made(self._state) if _is_factory(self._state) else self._state}
        for name, resource in self._resources.items():
            manager = resource if _is_manager(resource) else await _made(resource)
            if hasattr(type(manager), '__aenter__'):
                given[name] = await stack.enter_async_context(manager)
            elif hasattr(type(manager), '__enter__'):
                given[name] = stack.enter_context(manager)
            else:
                raise TypeError(
                    f'resource {name!r}: {resource!r} has made {manager!r}, which is no context'
                    ' manager'
                )
        return given


async def _made(factory: Any) -> Any:
    made = factory()
    return await made if inspect.isawaitable(made) else made


def _is_factory(value: Any) -> bool:
    return isinstance(value, _FACTORIES)


def _is_manager(resource: Any) -> bool:
    kind = type(resource)
    return hasattr(kind, '__aenter__') or hasattr(kind, '__enter__')


def _check(name: str, resource: Any, taken: tuple[str, ...]) -> None:
    if name in taken:
        raise ValueError(f'resource {name!r}: the name is taken; call it something else')
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f'resource {name!r}: no function can declare that name')
    if inspect.isgeneratorfunction(resource) or inspect.isasyncgenfunction(resource):
        raise TypeError(
            f'resource {name!r}: {resource!r} is a generator function; put @contextmanager or'
            ' @asynccontextmanager of contextlib before it'
        )
    if not _is_manager(resource) and not callable(resource):
        raise TypeError(
            f'resource {name!r}: {resource!r} is neither a context manager nor makes one'
        )
