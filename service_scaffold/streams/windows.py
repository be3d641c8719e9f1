"""The kinds of windows: tumbling, hopping, sliding, session."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from datetime import timedelta

from service_scaffold.streams.window_plan import (
    Merge,
    Plan,
    Reach,
    Step,
    Window,
    Windows,
    milliseconds,
)


class _Aligned(Windows):
    """Windows of one size that start at multiples of a step."""

    size_ms: int
    step_ms: int

    def ranges(self, t_ms: int) -> list[Window]:
        """Return the windows that hold a moment, the newest last."""
        last = t_ms - t_ms % self.step_ms
        count = (self.size_ms - 1 - (t_ms - last)) // self.step_ms
        first = last - count * self.step_ms
        return [
            Window(start, start + self.size_ms) for start in range(first, last + 1, self.step_ms)
        ]

    def plan(self, t_ms: int, existing: Sequence[Window], stream_ms: int) -> Plan:
        opened, late = _parted(self, self.ranges(t_ms), stream_ms)
        return Plan(tuple(Step(window, (window,)) for window in opened), late=late)

    def newest(self, t_ms: int, existing: Sequence[Window] = ()) -> Window:
        start = t_ms - t_ms % self.step_ms
        return Window(start, start + self.size_ms)

    def reach(self, t_ms: int) -> None:
        return None


class TumblingWindow(_Aligned):
    """Windows of one size, one after the other, from the epoch on.

    Raises:
        ValueError: `size_s` is not positive; `expires` or `grace` is negative.
    """

    def __init__(
        self,
        size_s: float | timedelta,
        expires: float | timedelta | None = None,
        grace: float | timedelta = 0,
    ) -> None:
        self.size_ms = self.step_ms = milliseconds('size_s', size_s)
        super().__init__(expires, grace)


class HoppingWindow(_Aligned):
    """Windows of one size that start every `step_s` seconds, from the epoch on, and so overlap.

    A step longer than the size is refused: what falls between two windows would be lost silently.

    Raises:
        ValueError: A size or step is not positive, or the step is longer than the size; `expires`
            or `grace` is negative.
    """

    def __init__(
        self,
        size_s: float | timedelta,
        step_s: float | timedelta,
        expires: float | timedelta | None = None,
        grace: float | timedelta = 0,
    ) -> None:
        self.size_ms = milliseconds('size_s', size_s)
        self.step_ms = milliseconds('step_s', step_s)
        if self.step_ms > self.size_ms:
            raise ValueError(
                f'step_s must not exceed size_s, got {step_s!r} and {size_s!r}:'
                ' events between the windows would be in none'
            )
        super().__init__(expires, grace)


class SlidingWindow(Windows):
    """One window for each distinct event time t of a key: `[t - before, t + after)`.

    Args:
        before_s: Seconds before the event, 0 or more.
        after_s: Seconds after the event, above 0, as a window holds its own event.
        merge: Makes one value of two, the older first: a new window begins with what the events
            before it have left. It must agree with the operations: `+=` with `operator.add`.

    Raises:
        ValueError: One of the numbers is out of range.
    """

    def __init__(
        self,
        before_s: float | timedelta,
        after_s: float | timedelta,
        expires: float | timedelta | None = None,
        grace: float | timedelta = 0,
        merge: Merge = operator.add,
    ) -> None:
        self.before_ms = milliseconds('before_s', before_s, at_least=0)
        self.after_ms = milliseconds('after_s', after_s)
        self.merge = merge
        super().__init__(expires, grace)

    def window(self, t_ms: int) -> Window:
        """Return the window of an event time."""
        return Window(t_ms - self.before_ms, t_ms + self.after_ms)

    def plan(self, t_ms: int, existing: Sequence[Window], stream_ms: int) -> Plan:
        own = self.window(t_ms)
        holders = [window for window in existing if window.holds(t_ms)]
        if own not in holders:
            holders = sorted([*holders, own])
        opened, late = _parted(self, holders, stream_ms)
        known = set(existing)
        steps = (
            Step(window, (window,))
            if window in known
            else Step(window, panes=self._panes(existing, own))
            for window in opened
        )
        wanted = self.pane_until(own) > stream_ms
        return Plan(tuple(steps), late=late, pane=own if wanted else None)

    def _panes(self, existing: Sequence[Window], own: Window) -> tuple[Window, ...]:
        """Return the windows whose own event `own` holds."""
        return tuple(window for window in existing if own.holds(window.start_ms + self.before_ms))

    def pane_until(self, window: Window) -> int:
        return self.closes_at(window) + self.before_ms

    def newest(self, t_ms: int, existing: Sequence[Window] = ()) -> Window | None:
        return _newest(t_ms, existing)

    def reach(self, t_ms: int) -> Reach:
        # Windows that hold t, and those whose event the window of t holds.
        first = t_ms - max(self.before_ms, self.after_ms - 1)
        last = t_ms + max(self.before_ms, self.after_ms - 1)
        return first - self.before_ms, last - self.before_ms + 1

    def expires_at(self, window: Window) -> int | None:
        expires = super().expires_at(window)
        return None if expires is None else max(expires, self.pane_until(window))


class SessionWindow(Windows):
    """Windows of activity, `[first, last + gap)`; an event between two open ones merges them.

    Sessions that have closed are never joined: an event near one begins another, unless its own
    `[t, t + gap)` has closed as well; then it is late.

    Args:
        gap_s: Seconds without an event that end a session.
        merge: Makes the value of two sessions that become one, the older first.

    Raises:
        ValueError: `gap_s` is not positive; `expires` or `grace` is negative.
    """

    def __init__(
        self,
        gap_s: float | timedelta,
        merge: Merge = operator.add,
        expires: float | timedelta | None = None,
        grace: float | timedelta = 0,
    ) -> None:
        self.gap_ms = milliseconds('gap_s', gap_s)
        self.merge = merge
        super().__init__(expires, grace)

    def plan(self, t_ms: int, existing: Sequence[Window], stream_ms: int) -> Plan:
        near = [w for w in existing if w.start_ms < t_ms + self.gap_ms and t_ms < w.end_ms]
        joined, closed = _parted(self, near, stream_ms)
        window = Window(
            min([t_ms, *(w.start_ms for w in joined)]),
            max([t_ms + self.gap_ms, *(w.end_ms for w in joined)]),
        )
        if self.is_closed(window, stream_ms):
            return Plan(late=(_newest(t_ms, closed) or window,))
        removed = tuple(session for session in joined if session != window)
        return Plan((Step(window, tuple(joined)),), removed)

    def newest(self, t_ms: int, existing: Sequence[Window] = ()) -> Window | None:
        return _newest(t_ms, existing)

    def reach(self, t_ms: int) -> Reach:
        return None, t_ms + self.gap_ms


def _parted(
    windows: Windows, found: Sequence[Window], stream_ms: int
) -> tuple[list[Window], tuple[Window, ...]]:
    """Return the open ones and the closed ones."""
    opened = [window for window in found if not windows.is_closed(window, stream_ms)]
    if len(opened) == len(found):  # nearly always
        return opened, ()
    return opened, tuple(window for window in found if windows.is_closed(window, stream_ms))


def _newest(t_ms: int, existing: Sequence[Window]) -> Window | None:
    return next((window for window in reversed(existing) if window.holds(t_ms)), None)
