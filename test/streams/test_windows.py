"""Tests of `service_scaffold.streams.windows`, against what brute force finds."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_scaffold.streams.window_plan import Plan, Step, Window, Windows
from service_scaffold.streams.windows import (
    HoppingWindow,
    SessionWindow,
    SlidingWindow,
    TumblingWindow,
)

Contents = Counter[int]
"""The value of a window in these tests: the event times that it has seen."""

TIMES = st.lists(st.integers(-40, 60), max_size=25)
GRACE = st.integers(0, 30)


def seconds(ms: int) -> float:
    return ms / 1000


class Table:
    """The windows of one key, changed as plans say, and nothing else."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.values: dict[Window, Contents] = {}
        self.panes: dict[Window, Contents] = {}
        self.late: list[tuple[int, Window]] = []
        self.closed: dict[Window, Contents] = {}
        self.stream_ms = -(10**9)

    def existing(self, t_ms: int) -> list[Window]:
        """Return what a scan of the store within reach gives."""
        reach = self.windows.reach(t_ms)
        if reach is None:
            return []
        first, below = reach
        return sorted(
            window
            for window in {*self.values, *self.panes}
            if (first is None or first <= window.start_ms) and window.start_ms < below
        )

    def add(self, t_ms: int) -> Plan:
        """Handle an event at `t_ms`: `table[key] += Counter([t_ms])`."""
        self.stream_ms = max(self.stream_ms, t_ms)
        plan = self.windows.plan(t_ms, self.existing(t_ms), self.stream_ms)
        new = {step.window: self.begin(step) + Contents([t_ms]) for step in plan.steps}
        for window in plan.removed:
            del self.values[window]
        self.values.update(new)
        if plan.pane is not None:
            self.panes[plan.pane] = self.panes.get(plan.pane, Contents()) + Contents([t_ms])
        self.late += [(t_ms, window) for window in plan.late]
        self.close()
        return plan

    def begin(self, step: Step) -> Contents:
        value = Contents()
        for part in (
            *(self.values.get(window, Contents()) for window in step.values),
            *(self.panes[window] for window in step.panes),
        ):
            value = self.windows.merge(value, part)
        return value

    def close(self) -> None:
        for window, value in self.values.items():
            if self.windows.is_closed(window, self.stream_ms):
                assert self.closed.setdefault(window, value) == value, 'a closed window changed'
        for window in [*self.values, *self.panes]:
            expires = self.windows.expires_at(window)
            if expires is not None and expires <= self.stream_ms:
                self.values.pop(window, None)
                self.panes.pop(window, None)

    def all(self) -> dict[Window, Contents]:
        return self.values | self.closed


def arrivals(times: list[int]) -> Iterator[tuple[int, int]]:
    """Yield event times with the stream time at which they arrive."""
    stream_ms = -(10**9)
    for t_ms in times:
        stream_ms = max(stream_ms, t_ms)
        yield t_ms, stream_ms


@given(TIMES, st.integers(1, 20), st.integers(1, 20), GRACE)
def test_hopping_windows_hold_what_brute_force_finds(
    times: list[int], size: int, step: int, grace: int
) -> None:
    size, step = max(size, step), min(size, step)
    table = Table(HoppingWindow(seconds(size), seconds(step), grace=seconds(grace)))
    for t_ms in times:
        table.add(t_ms)

    expected: dict[Window, Contents] = {}
    late = []
    for t_ms, stream_ms in arrivals(times):
        for start in range(-100 * step, 100 * step, step):
            if start <= t_ms < start + size:
                window = Window(start, start + size)
                if start + size + grace > stream_ms:
                    expected[window] = expected.get(window, Contents()) + Contents([t_ms])
                else:
                    late.append((t_ms, window))
    assert table.all() == expected
    assert table.late == late


@given(st.integers(-(10**13), 10**13), st.integers(1, 10**6), st.integers(1, 10**6))
def test_ranges_hold_the_moment_and_their_neighbours_do_not(t_ms: int, a: int, b: int) -> None:
    size, step = max(a, b), max(min(a, b), max(a, b) // 50)
    ranges = HoppingWindow(seconds(size), seconds(step)).ranges(t_ms)

    assert ranges == sorted(ranges)
    assert all(window.holds(t_ms) for window in ranges)
    assert all(window.start_ms % step == 0 for window in ranges)
    assert ranges[0].end_ms - step <= t_ms
    assert t_ms < ranges[-1].start_ms + step


@pytest.mark.parametrize(
    ('t_ms', 'window'),
    [
        (0, (0, 60_000)),
        (59_999, (0, 60_000)),
        (60_000, (60_000, 120_000)),
        (-1, (-60_000, 0)),
    ],
)
def test_a_tumbling_window_is_half_open(t_ms: int, window: tuple[int, int]) -> None:
    windows = TumblingWindow(60)

    assert windows.ranges(t_ms) == [window]
    assert windows.newest(t_ms) == window
    assert windows.plan(t_ms, [], t_ms).steps == (Step(Window(*window), (Window(*window),)),)


def test_a_window_closes_at_its_end_plus_grace() -> None:
    windows = TumblingWindow(60, grace=5)
    window = Window(0, 60_000)

    assert windows.plan(59_999, [], 64_999).steps
    assert windows.plan(59_999, [], 65_000) == Plan(late=(window,))
    assert windows.closes_at(window) == 65_000
    assert not windows.is_closed(window, 64_999)
    assert windows.is_closed(window, 65_000)


def test_an_event_may_be_late_for_one_window_only() -> None:
    windows = HoppingWindow(60, 30)

    plan = windows.plan(45_000, [], 70_000)

    assert [step.window for step in plan.steps] == [(30_000, 90_000)]
    assert plan.late == ((0, 60_000),)


def test_delta_looks_back_from_the_event() -> None:
    windows = TumblingWindow(60)

    assert windows.delta(61_000, 60) == (0, 60_000)
    assert windows.delta(61_000, timedelta(minutes=2)) == (-60_000, 0)
    assert SessionWindow(10).delta(20_000, 5, [Window(0, 16_000)]) == (0, 16_000)
    assert SessionWindow(10).delta(20_000, 4, [Window(0, 16_000)]) is None


@given(TIMES, st.integers(0, 20), st.integers(1, 20), GRACE, st.none() | st.integers(0, 30))
def test_sliding_windows_hold_what_brute_force_finds(
    times: list[int], before: int, after: int, grace: int, expires: int | None
) -> None:
    """Also with expiry at the earliest, which must not take what a later window begins with."""
    table = Table(
        SlidingWindow(
            seconds(before),
            seconds(after),
            expires=None if expires is None else seconds(expires),
            grace=seconds(grace),
        )
    )
    for t_ms in times:
        table.add(t_ms)

    def is_open(center: int, stream_ms: int) -> bool:
        return center + after + grace > stream_ms

    seen = list(arrivals(times))
    centers = {t for t, stream_ms in seen if is_open(t, stream_ms)}
    expected = {
        Window(center - before, center + after): Contents(
            t
            for t, stream_ms in seen
            if center - before <= t < center + after and is_open(center, stream_ms)
        )
        for center in centers
    }
    assert table.all() == expected


@given(TIMES, st.integers(0, 20), st.integers(1, 20), GRACE)
def test_what_is_out_of_reach_changes_nothing_for_sliding_windows(
    times: list[int], before: int, after: int, grace: int
) -> None:
    windows = SlidingWindow(seconds(before), seconds(after), grace=seconds(grace))
    existing = sorted({windows.window(t_ms) for t_ms in times})
    first, below = windows.reach(0)
    near = [window for window in existing if first <= window.start_ms < below]

    assert windows.plan(0, near, 5) == windows.plan(0, existing, 5)
    assert windows.newest(0, near) == windows.newest(0, existing)


def test_a_sliding_window_begins_with_the_events_before_it() -> None:
    windows = SlidingWindow(10, 1)
    first = Window(-10_000, 1_000)

    plan = windows.plan(5_000, [first], 5_000)

    assert plan == Plan((Step(Window(-5_000, 6_000), panes=(first,)),), pane=Window(-5_000, 6_000))


def test_an_event_late_for_its_own_sliding_window_still_counts_in_later_ones() -> None:
    windows = SlidingWindow(10, 1)
    later = windows.window(9_000)

    plan = windows.plan(3_000, [later], 9_000)

    assert plan == Plan(
        (Step(later, (later,)),), late=(windows.window(3_000),), pane=windows.window(3_000)
    )


@given(TIMES, st.integers(1, 20), GRACE, st.none() | st.integers(0, 30))
def test_sessions_hold_what_brute_force_finds(
    times: list[int], gap: int, grace: int, expires: int | None
) -> None:
    table = Table(
        SessionWindow(
            seconds(gap),
            expires=None if expires is None else seconds(expires),
            grace=seconds(grace),
        )
    )
    pool: list[int] = []
    expected: dict[Window, Contents] = {}
    late = []
    for t_ms, stream_ms in arrivals(times):
        table.add(t_ms)
        pool.append(t_ms)
        for session in sessions(pool, gap):
            if session[-1] + gap + grace <= stream_ms:
                pool = [t for t in pool if t not in session]
                if t_ms in session:
                    late.append(t_ms)
                    session.remove(t_ms)
                if session:
                    expected[Window(session[0], session[-1] + gap)] = Contents(session)
    still_open = {Window(s[0], s[-1] + gap): Contents(s) for s in sessions(pool, gap)}

    assert table.all() == expected | still_open
    assert [t_ms for t_ms, _ in table.late] == late


def sessions(times: list[int], gap: int) -> list[list[int]]:
    """Cut sorted times wherever `gap` passes without one."""
    found: list[list[int]] = []
    for t_ms in sorted(times):
        if found and t_ms - found[-1][-1] < gap:
            found[-1].append(t_ms)
        else:
            found.append([t_ms])
    return found


def test_an_event_between_two_sessions_merges_them() -> None:
    """The older value comes first; both can be open only while there is some grace."""
    windows = SessionWindow(10, grace=5)
    older, newer = Window(0, 12_000), Window(15_000, 25_000)

    plan = windows.plan(8_000, [older, newer], 15_000)

    assert plan == Plan((Step(Window(0, 25_000), (older, newer)),), removed=(older, newer))


def test_an_event_within_a_session_changes_it_in_place() -> None:
    session = Window(0, 30_000)

    plan = SessionWindow(10).plan(5_000, [session], 25_000)

    assert plan == Plan((Step(session, (session,)),))


@pytest.mark.parametrize('t_ms', [10_000, -10_000])
def test_an_event_a_whole_gap_away_begins_another_session(t_ms: int) -> None:
    windows = SessionWindow(10, grace=15)

    plan = windows.plan(t_ms, [Window(0, 10_000)], 10_000)

    assert plan == Plan((Step(Window(t_ms, t_ms + 10_000)),))


def test_a_closed_session_is_not_opened_again() -> None:
    windows = SessionWindow(10)
    closed = Window(0, 15_000)

    assert windows.plan(14_000, [closed], 15_000) == Plan((Step(Window(14_000, 24_000)),))
    assert windows.plan(4_000, [closed], 15_000) == Plan(late=(closed,))
    assert windows.plan(4_000, [], 15_000) == Plan(late=(Window(4_000, 14_000),))


def test_the_newest_window_of_a_key_is_found_among_those_that_exist() -> None:
    existing = [Window(-5, 5), Window(0, 10), Window(12, 20)]

    assert SlidingWindow(0.005, 0.005).newest(3, existing) == (0, 10)
    assert SlidingWindow(0.005, 0.005).newest(10, existing) is None
    assert SlidingWindow(0.005, 0.005).newest(12, existing) == (12, 20)


def test_a_window_tells_its_bounds_in_seconds() -> None:
    window = Window(1_500, 61_500)

    assert (window.start, window.end) == (1.5, 61.5)
    assert window.holds(1_500)
    assert not window.holds(61_500)


@pytest.mark.parametrize(
    ('windows', 'expires_ms'),
    [
        (TumblingWindow(60), None),
        (TumblingWindow(60, expires=3600), 3_660_000),
        (TumblingWindow(60, 1, 5), 65_000),
        (SessionWindow(60, expires=1), 61_000),
        (SlidingWindow(30, 30, expires=1), 90_000),
        (SlidingWindow(30, 30), None),
    ],
    ids=repr,
)
def test_a_window_expires_after_it_has_closed(windows: Windows, expires_ms: int | None) -> None:
    assert windows.expires_at(Window(0, 60_000)) == expires_ms


@pytest.mark.parametrize(
    ('make', 'told'),
    [
        (lambda: TumblingWindow(0), 'size_s'),
        (lambda: TumblingWindow(-1), 'size_s'),
        (lambda: TumblingWindow(0.0004), 'size_s must be above 0, and a millisecond'),
        (lambda: TumblingWindow(float('nan')), 'size_s'),
        (lambda: TumblingWindow(float('inf')), 'size_s'),
        (lambda: TumblingWindow(60, expires=-1), 'expires'),
        (lambda: TumblingWindow(60, grace=-1), 'grace must be 0 or more, got -1'),
        (lambda: HoppingWindow(0, 1), 'size_s'),
        (lambda: HoppingWindow(60, 0), 'step_s'),
        (lambda: HoppingWindow(60, 61), 'step_s must not exceed size_s'),
        (lambda: SlidingWindow(-1, 1), 'before_s'),
        (lambda: SlidingWindow(1, 0), 'after_s'),
        (lambda: SessionWindow(0), 'gap_s'),
        (lambda: SessionWindow(1, grace=-1), 'grace'),
    ],
)
def test_a_wrong_number_is_named(make, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make()


@pytest.mark.parametrize('size', ['60', None, True])
def test_what_is_no_number_is_a_type_error(size) -> None:
    with pytest.raises(TypeError, match='size_s'):
        TumblingWindow(size)


def test_fractions_of_a_second_are_whole_milliseconds() -> None:
    assert TumblingWindow(0.1).newest(299) == (200, 300)
    assert HoppingWindow(timedelta(minutes=1), 0.5).step_ms == 500


def test_equal_windows_are_equal_and_readable() -> None:
    assert TumblingWindow(60, grace=5) == TumblingWindow(60.0, None, 5)
    assert hash(TumblingWindow(60)) == hash(TumblingWindow(60))
    assert TumblingWindow(60) != HoppingWindow(60, 60)
    assert SessionWindow(60) != SessionWindow(60, merge=max)
    assert SessionWindow(60).merge is operator.add
    assert repr(HoppingWindow(60, 0.5)) == 'HoppingWindow(size=60, step=0.5, grace=0)'
