"""A windowed table as of a certain time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from service_scaffold.streams.event import Event
from service_scaffold.streams.tables.named import TableView
from service_scaffold.streams.tables.window_set import Change, Operation, WindowSet
from service_scaffold.streams.window_plan import Window, milliseconds

Anchor = Literal['stream', 'clock']

Moment = Callable[[Event | None, float], 'float | datetime | None']
"""Which time a view is about, given the event in hand and the clock; None: the event's own."""


class Viewed(Protocol):
    """A windowed table, seen from its views."""

    def change_at(self, key: Any, operation: Operation, moment: Moment | None) -> None: ...

    def read_at(self, key: Any, ago_ms: int, moment: Moment | Anchor | None) -> Any: ...

    def window_items(self, key: Any) -> Iterator[tuple[Window, Any]]: ...


class WindowView(TableView):
    """A windowed table whose operations are about a certain time.

    Args:
        moment: Which; None means that of the event in hand.
    """

    def __init__(self, table: Viewed, moment: Moment | None = None) -> None:
        self.table: Viewed = table
        self._moment = moment

    def __repr__(self) -> str:
        return repr(self.table)

    def __getitem__(self, key: Any) -> WindowSet:
        return WindowSet(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, Change):
            self.change(key, value.operation)
        elif not isinstance(value, WindowSet):
            self.change(key, lambda _: value)
        elif not value.belongs_to(self, key):
            raise TypeError(
                f'{value!r} stands for all windows of a key; assign one value, like .value()'
            )

    def change(self, key: Any, operation: Operation) -> None:
        """Apply an operation to each open window of a key that holds the time."""
        self.table.change_at(key, operation, self._moment)

    def read(
        self,
        key: Any,
        ago: float | timedelta = 0,
        at: Anchor | None = None,
    ) -> Any:
        """Return the value of the newest window that holds a time."""
        return self.table.read_at(key, milliseconds('delta', ago, at_least=0), at or self._moment)

    def window_items(self, key: Any) -> Iterator[tuple[Window, Any]]:
        """Yield the windows of a key."""
        return self.table.window_items(key)
