"""Moments of an application's life that others may be told of."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Handler = TypeVar('Handler', bound=Callable[..., Any])


class Signal:
    """One such moment: `@app.on_partitions_assigned.connect`, on a function, sync or async.

    A handler takes what the signal gives by position, the application first, and of what it gives
    by name those that it declares. What it raises is raised where the signal is sent.

    Args:
        name: For messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._handlers: list[tuple[Callable[..., Any], frozenset[str] | None]] = []

    def __repr__(self) -> str:
        return f'<Signal {self.name} {len(self._handlers)} handlers>'

    def __bool__(self) -> bool:
        return bool(self._handlers)

    def connect(self, handler: Handler | None = None) -> Any:
        """Tell `handler` from now on; returns it. Written `connect` or `connect()`.

        Raises:
            TypeError: It is not a function.
        """
        if handler is None:
            return self.connect
        if not callable(handler):
            raise TypeError(f'{self.name}.connect needs a function, not {handler!r}')
        self._handlers.append((handler, _names(handler)))
        return handler

    def disconnect(self, handler: Callable[..., Any]) -> None:
        """Tell `handler` no more."""
        self._handlers = [known for known in self._handlers if known[0] is not handler]

    async def send(self, *values: Any, **named: Any) -> None:
        """Tell all handlers, in the order in which they were connected."""
        for handler, names in self._handlers:
            taken = (
                named
                if names is None
                else {key: value for key, value in named.items() if key in names}
            )
            answer = handler(*values, **taken)
            if inspect.isawaitable(answer):
                await answer


def _names(handler: Callable[..., Any]) -> frozenset[str] | None:
    """Return the parameters that can be given by name, None when any can."""
    parameters = inspect.signature(handler).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return frozenset(parameter.name for parameter in parameters if parameter.kind in by_name)
