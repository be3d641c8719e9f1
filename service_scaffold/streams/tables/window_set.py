"""The windows of one key, as an agent sees them: `table[key]`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Literal, Protocol

from service_scaffold.streams.window_plan import Window

Operation = Callable[[Callable[[], Any]], Any]
"""Makes the new value of a window; it is given what returns the old one."""


class Sees(Protocol):
    """A windowed table, seen from the windows of a key."""

    def change(self, key: Any, operation: Operation) -> None: ...

    def read(
        self,
        key: Any,
        ago: float | timedelta = 0,
        at: Literal['stream', 'clock'] | None = None,
    ) -> Any: ...

    def window_items(self, key: Any) -> Iterator[tuple[Window, Any]]: ...


class Change:
    """What `table[key] + x` means: it counts for each window once it is assigned to `table[key]`.

    Attributes:
        operation: Makes the new value of a window.
    """

    def __init__(self, operation: Operation) -> None:
        self.operation = operation


def _deferred(function: Callable[[Any, Any], Any]) -> Callable[[WindowSet, Any], Change]:
    def operate(self: WindowSet, other: Any) -> Change:
        return Change(lambda old: function(old(), other))

    return operate


def _at_once(function: Callable[[Any, Any], Any]) -> Callable[[WindowSet, Any], WindowSet]:
    def operate(self: WindowSet, other: Any) -> WindowSet:
        return self.apply(function, other)

    return operate


class WindowSet:
    """All windows of one key that matter now.

    `table[key] += x`, and likewise `-=`, `|=` and so on, goes to each open window that holds the
    event's time, to each with its own old value; so does `table[key] = table[key] + x`. To read,
    say which window: `value`, `current`, `now` or `delta`.

    Attributes:
        key: Of the table.
    """

    def __init__(self, view: Sees, key: Any) -> None:
        self.key = key
        self._view = view

    def __repr__(self) -> str:
        return f'<WindowSet {self.key!r} of {self._view}>'

    __hash__ = None  # type: ignore[assignment]

    def belongs_to(self, view: Sees, key: Any) -> bool:
        """Tell whether it is what `view[key]` gives."""
        return self._view is view and self.key == key

    # Reading

    def value(self) -> Any:
        """Return the value of the newest window that holds the event's time.

        With `relative_to_…` it is the time that stands there; where no event is handled it is the
        stream time.

        Raises:
            KeyError: The key has none, and the table no default.
        """
        return self._view.read(self.key)

    def current(self) -> Any:
        """Return the value of the newest window that holds the partition's stream time.

        Raises:
            KeyError: See `value`.
        """
        return self._view.read(self.key, at='stream')

    def now(self) -> Any:
        """Return the value of the newest window that holds the time of the clock.

        Raises:
            KeyError: See `value`.
        """
        return self._view.read(self.key, at='clock')

    def delta(self, ago: float | timedelta) -> Any:
        """Return the value of the newest window that holds the moment `ago` seconds before.

        Raises:
            KeyError: See `value`.
        """
        return self._view.read(self.key, ago)

    def items(self) -> list[tuple[Window, Any]]:
        """Return all windows of the key that are kept, with their values."""
        return list(self._view.window_items(self.key))

    def __iter__(self) -> Iterator[Window]:
        return (window for window, _ in self._view.window_items(self.key))

    def __getitem__(self, window: Window) -> Any:
        for found, value in self._view.window_items(self.key):
            if found == window:
                return value
        raise KeyError(window)

    # Writing

    def apply(self, function: Callable[..., Any], *arguments: Any) -> WindowSet:
        """Let each open window that holds the event's time have `function(old, *arguments)`."""
        self._view.change(self.key, lambda old: function(old(), *arguments))
        return self

    __add__ = _deferred(operator.add)
    __sub__ = _deferred(operator.sub)
    __mul__ = _deferred(operator.mul)
    __truediv__ = _deferred(operator.truediv)
    __floordiv__ = _deferred(operator.floordiv)
    __mod__ = _deferred(operator.mod)
    __pow__ = _deferred(operator.pow)
    __lshift__ = _deferred(operator.lshift)
    __rshift__ = _deferred(operator.rshift)
    __and__ = _deferred(operator.and_)
    __or__ = _deferred(operator.or_)
    __xor__ = _deferred(operator.xor)

    # Not the functions that change their first operand: that may be the table's default.
    __iadd__ = _at_once(operator.add)
    __isub__ = _at_once(operator.sub)
    __imul__ = _at_once(operator.mul)
    __itruediv__ = _at_once(operator.truediv)
    __ifloordiv__ = _at_once(operator.floordiv)
    __imod__ = _at_once(operator.mod)
    __ipow__ = _at_once(operator.pow)
    __ilshift__ = _at_once(operator.lshift)
    __irshift__ = _at_once(operator.rshift)
    __iand__ = _at_once(operator.and_)
    __ior__ = _at_once(operator.or_)
    __ixor__ = _at_once(operator.xor)
