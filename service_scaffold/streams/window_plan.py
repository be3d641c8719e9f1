"""What a window is, and what an operation at some time does to the windows of a key.

Everything here is a pure function of integers: milliseconds since the epoch. A window is half-open,
`[start, end)`, and closes when the stream time of its partition reaches `end + grace`; then it
never changes again.

What an operation on a key does is a `Plan`, made by `windows.plan(t_ms, existing, stream_ms)`:

- Each of its `steps` names a window, and what the window begins with: the values of `values`,
  merged oldest first where there are several (the default where there is none), or, for a
  sliding window that is new, the merged `panes`. Then the operation is applied to that.
- `removed` are deleted: they have been merged into a step's window.
- `late` hold the event but have closed; they do not change.
- `pane`, of sliding windows only, names the record that also keeps what happened at exactly `t_ms`:
  the operation is applied to what it holds so far, the default at first. A later window begins
  with the panes of the events before it. It outlives its window: see `pane_until`.

`existing` are the windows of that key whose start is within `reach(t_ms)`, sorted; closed ones may
be among them. Where windows are aligned (tumbling and hopping) nobody needs to look: `reach` is
None.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

Merge = Callable[[Any, Any], Any]
"""Makes one value of two, the older first."""

Reach = tuple[int | None, int]
"""Starts of windows, in milliseconds: from the first (None: from the oldest), below the second."""


class Window(NamedTuple):
    """A span of time, `[start, end)`.

    Attributes:
        start_ms: Its first millisecond.
        end_ms: The millisecond after its last.
    """

    start_ms: int
    end_ms: int

    @property
    def start(self) -> float:
        """Epoch seconds."""
        return self.start_ms / 1000

    @property
    def end(self) -> float:
        """Epoch seconds."""
        return self.end_ms / 1000

    def holds(self, t_ms: int) -> bool:
        """Tell whether a moment is in it."""
        return self.start_ms <= t_ms < self.end_ms


class Step(NamedTuple):
    """One window that an operation changes; see the module."""

    window: Window
    values: tuple[Window, ...] = ()
    panes: tuple[Window, ...] = ()


class Plan(NamedTuple):
    """What an operation does to the windows of its key; the newest is last. See the module."""

    steps: tuple[Step, ...] = ()
    removed: tuple[Window, ...] = ()
    late: tuple[Window, ...] = ()
    pane: Window | None = None


class Windows(ABC):
    """How time is cut into windows.

    Args:
        expires: Seconds after its end at which a window is removed from the table, but never
            before it has closed; None keeps it.
        grace: Seconds that a window waits for late events after its end.

    Attributes:
        grace_ms: The grace, in milliseconds.
        expires_ms: `expires`, in milliseconds.
        merge: Makes one value of two where windows begin with several.
    """

    merge: Merge = staticmethod(operator.add)

    def __init__(self, expires: float | timedelta | None, grace: float | timedelta) -> None:
        self.grace_ms = milliseconds('grace', grace, at_least=0)
        self.expires_ms = None if expires is None else milliseconds('expires', expires, at_least=0)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        parts = (
            f'{name.removesuffix("_ms")}={value / 1000:g}'
            for name, value in vars(self).items()
            if name.endswith('_ms') and value is not None
        )
        return f'{type(self).__name__}({", ".join(parts)})'

    @abstractmethod
    def plan(self, t_ms: int, existing: Sequence[Window], stream_ms: int) -> Plan:
        """Return what an operation on a key does at `t_ms`.

        Args:
            existing: The windows of the key within `reach(t_ms)`, sorted.
            stream_ms: Stream time of the partition, the event itself included.
        """

    @abstractmethod
    def newest(self, t_ms: int, existing: Sequence[Window] = ()) -> Window | None:
        """Return the newest window that holds a moment, None without one.

        For `.value()` the moment is the event's time, for `.current()` the stream time, for
        `.now()` the clock's.
        """

    def delta(
        self, t_ms: int, ago: float | timedelta, existing: Sequence[Window] = ()
    ) -> Window | None:
        """Return the newest window that holds the moment `ago` seconds before `t_ms`.

        Args:
            existing: The windows of the key within `reach` of that moment.
        """
        return self.newest(t_ms - milliseconds('delta', ago, at_least=0), existing)

    @abstractmethod
    def reach(self, t_ms: int) -> Reach | None:
        """Return which windows of the key matter at a moment, None if none needs to be known."""

    def closes_at(self, window: Window) -> int:
        """Return the stream time at which a window closes."""
        return window.end_ms + self.grace_ms

    def is_closed(self, window: Window, stream_ms: int) -> bool:
        """Tell whether a window has closed."""
        return self.closes_at(window) <= stream_ms

    def expires_at(self, window: Window) -> int | None:
        """Return the stream time at which the record of a window is removed, None for never."""
        if self.expires_ms is None:
            return None
        return window.end_ms + max(self.expires_ms, self.grace_ms)

    def pane_until(self, window: Window) -> int | None:
        """Return the stream time from which on no new window can begin with the pane of this one.

        None: its windows have no panes.
        """
        return None


def milliseconds(name: str, value: float | timedelta, *, at_least: int = 1) -> int:
    """Return seconds as whole milliseconds, rounded.

    Raises:
        ValueError: They are fewer than `at_least` milliseconds, or not finite.
        TypeError: It is not a number.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f'{name} must be seconds or a timedelta, got {value!r}')
    if not math.isfinite(value) or (rounded := round(value * 1000)) < at_least:
        limit = 'above 0, and a millisecond at least' if at_least else '0 or more'
        raise ValueError(f'{name} must be {limit}, got {value!r}')
    return rounded
