"""Tests of `service_scaffold.streams.schedule`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from service_scaffold.clock import Clock, ManualClock
from service_scaffold.streams import schedule
from service_scaffold.streams.schedule import Cron, Schedule, Timer, interval_of


@contextlib.asynccontextmanager
async def ticking(scheduled: Schedule, clock: Clock) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(scheduled.run(clock))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Job:
    """A function that takes `duration_s` and remembers when it ran."""

    def __init__(self, clock: ManualClock, duration_s: float = 0.0) -> None:
        self.clock = clock
        self.duration_s = duration_s
        self.began: list[float] = []
        self.ended: list[float] = []
        self.at_once = 0

    async def __call__(self) -> None:
        self.began.append(round(self.clock.time(), 6))
        self.at_once = max(self.at_once, len(self.began) - len(self.ended))
        if self.duration_s:
            await self.clock.sleep(self.duration_s)
        self.ended.append(round(self.clock.time(), 6))


class Jumping(ManualClock):
    """A clock that does not only go on while everybody looks.

    Attributes:
        set_s: How far the clock on the wall was moved, on or back, as NTP does.
        blocked_s: How long the event loop was blocked; what sleeps, wakes that much later.
    """

    set_s = 0.0
    blocked_s = 0.0

    def time(self) -> float:
        return super().time() + self.set_s + self.blocked_s

    def monotonic(self) -> float:
        return super().monotonic() + self.blocked_s


async def test_a_timer_ticks_first_after_one_interval() -> None:
    clock = ManualClock(start=1000.0)
    job = Job(clock)
    timer = Timer(job, 60.0, name='report')

    async with ticking(timer, clock):
        await clock.advance(59.9)
        assert job.began == []
        await clock.advance(120.2)

    assert job.began == [1060, 1120, 1180]
    assert (timer.runs, timer.errors, timer.skipped) == (3, 0, 0)


async def test_a_timer_does_not_drift() -> None:
    """Neither by the length of its runs, nor by adding up fractions."""
    clock = ManualClock()
    job = Job(clock, duration_s=0.03)

    async with ticking(Timer(job, 0.1), clock):
        await clock.advance(100.05)

    assert job.began == [round(number / 10, 6) for number in range(1, 1001)]


async def test_skip_leaves_out_the_ticks_of_a_run_that_takes_too_long(caplog) -> None:
    clock = ManualClock()
    job = Job(clock, duration_s=25)
    timer = Timer(job, 10)

    async with ticking(timer, clock):
        await clock.advance(75)

    assert job.began == [10, 40, 70]
    assert (timer.runs, timer.skipped) == (3, 4)
    assert [record.message for record in caplog.records] == [
        f'{timer} is still running; ticks are skipped until it ends'
    ] * 2


async def test_queue_makes_up_for_every_tick_one_after_the_other() -> None:
    clock = ManualClock()
    job = Job(clock, duration_s=15)
    timer = Timer(job, 10, overlap='queue')

    async with ticking(timer, clock):
        await clock.advance(41)
        assert timer.pending == 1
        job.duration_s = 1
        await clock.advance(19)

    assert job.began == [10, 25, 40, 55, 56, 60]
    assert job.at_once == 1
    assert (timer.runs, timer.skipped) == (6, 0)


async def test_overlap_runs_beside_the_run_before() -> None:
    clock = ManualClock()
    job = Job(clock, duration_s=25)
    timer = Timer(job, 10, overlap='overlap')

    async with ticking(timer, clock):
        await clock.advance(40)

    assert job.began == [10, 20, 30, 40]
    assert job.at_once == 3
    assert timer.skipped == 0


@pytest.mark.parametrize('overlap', ['skip', 'queue', 'overlap'])
async def test_ticks_missed_while_the_loop_was_blocked_are_one_run(overlap: Any) -> None:
    clock = Jumping()
    job = Job(clock)
    timer = Timer(job, 10, overlap=overlap)

    async with ticking(timer, clock):
        await clock.advance(10)
        clock.blocked_s = 37
        await clock.advance(14)

    assert job.began == [10, 57, 60]
    assert timer.skipped == 3


async def test_an_error_is_logged_with_its_traceback_and_the_timer_goes_on(caplog) -> None:
    clock = ManualClock()

    def fail() -> None:
        raise ValueError('out of water')

    timer = Timer(fail, 10)
    async with ticking(timer, clock):
        await clock.advance(25)

    assert (timer.runs, timer.errors) == (2, 2)
    assert [record.exc_info[0] for record in caplog.records] == [ValueError, ValueError]
    assert caplog.records[0].message == '<Timer fail every 10 s> failed: out of water'


@pytest.mark.parametrize('is_async', [True, False])
async def test_on_error_gets_the_timer_and_the_exception(is_async: bool, caplog) -> None:
    clock = ManualClock()
    told: list[tuple[Schedule, Exception]] = []

    async def fail() -> None:
        raise ValueError('out of water')

    async def later(timer: Schedule, error: Exception) -> None:
        await asyncio.sleep(0)
        told.append((timer, error))

    on_error = later if is_async else lambda timer, error: told.append((timer, error))
    timer = Timer(fail, 10, on_error=on_error)
    async with ticking(timer, clock):
        await clock.advance(20)

    assert [(who, str(error)) for who, error in told] == [(timer, 'out of water')] * 2
    assert caplog.records == []


@pytest.mark.parametrize('is_async', [True, False])
async def test_an_error_in_on_error_is_logged_and_the_timer_goes_on(is_async: bool, caplog) -> None:
    clock = ManualClock()

    async def fail() -> None:
        raise ValueError('first')

    def on_error(timer: Schedule, error: Exception) -> None:
        raise KeyError('second')

    async def on_error_later(timer: Schedule, error: Exception) -> None:
        raise KeyError('second')

    timer = Timer(fail, 10, on_error=on_error_later if is_async else on_error)
    async with ticking(timer, clock):
        await clock.advance(20)

    assert timer.errors == 2
    assert [record.exc_info[0] for record in caplog.records] == [ValueError, KeyError] * 2


async def test_a_function_that_awaits_something_cancelled_does_not_end_the_timer() -> None:
    clock = ManualClock()

    async def fail() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    errors: list[Exception] = []
    timer = Timer(fail, 10, overlap='queue', on_error=lambda timer, error: errors.append(error))
    async with ticking(timer, clock):
        await clock.advance(20)

    assert timer.errors == 2
    assert isinstance(errors[0].__cause__, asyncio.CancelledError)


async def test_a_stop_cancels_what_runs_and_what_waits() -> None:
    clock = ManualClock()
    job = Job(clock, duration_s=1000)
    timer = Timer(job, 10, overlap='queue')

    async with ticking(timer, clock) as task:
        await clock.advance(35)
        assert timer.pending == 2
        task.cancel()
        await asyncio.wait({task})

    await clock.advance(5000)
    assert job.began == [10]
    assert job.ended == []
    assert (timer.pending, timer.errors) == (0, 0)


async def test_a_stop_does_not_wait_for_ever(monkeypatch, caplog) -> None:
    monkeypatch.setattr(schedule, 'STOP_LIMIT_S', 0.01)
    clock = ManualClock()
    released = asyncio.Event()

    async def stubborn() -> None:
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    timer = Timer(stubborn, 10)
    async with ticking(timer, clock) as task:
        await clock.advance(10)
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()

    released.set()
    assert [record.message for record in caplog.records] == [f'{timer} did not end when cancelled']


async def test_it_can_be_run_again() -> None:
    clock = ManualClock()
    job = Job(clock)
    timer = Timer(job, 10)

    for _ in range(2):
        async with ticking(timer, clock):
            await clock.advance(15)

    assert job.began == [10, 25]


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ('start', 'runs'),
    [
        (
            '2026-03-28T12:00+01:00',
            ['2026-03-29T03:00+02:00', '2026-03-30T02:30+02:00'],
        ),
        (
            '2026-10-24T12:00+02:00',
            ['2026-10-25T02:30+02:00', '2026-10-26T02:30+01:00'],
        ),
    ],
)
async def test_a_crontab_runs_once_on_the_days_when_clocks_change(
    start: str, runs: list[str]
) -> None:
    clock = ManualClock(at(start))
    job = Job(clock)
    cron = Cron(job, '30 2 * * *', 'Europe/Berlin')

    async with ticking(cron, clock):
        await clock.advance(40 * 3600)

    assert job.began == [at(text) for text in runs]
    assert cron.runs == 2


async def test_a_crontab_is_skipped_while_it_still_runs() -> None:
    clock = ManualClock()
    job = Job(clock, duration_s=130)
    cron = Cron(job, '* * * * *')

    async with ticking(cron, clock):
        await clock.advance(300)

    assert job.began == [60, 240]
    assert cron.skipped == 3


async def test_a_crontab_runs_once_for_times_that_passed_unseen() -> None:
    clock = Jumping()
    job = Job(clock)
    cron = Cron(job, '* * * * *')

    async with ticking(cron, clock):
        await clock.advance(1)
        clock.blocked_s = 200
        await clock.advance(99)

    assert job.began == [260, 300]
    assert cron.skipped == 3


async def test_a_clock_set_on_by_decades_is_one_run() -> None:
    """A device without a battery wakes up in 1970."""
    clock = Jumping()
    job = Job(clock)

    async with ticking(Cron(job, '* * * * *'), clock):
        await clock.advance(1)
        clock.set_s = 1_800_000_000
        await clock.advance(60)

    assert job.began == [1_800_000_060]


async def test_a_clock_set_back_a_little_runs_nothing_twice() -> None:
    clock = Jumping(start=86_400.0)
    job = Job(clock)

    async with ticking(Cron(job, '0 * * * *'), clock):
        await clock.advance(3600)
        clock.set_s = -600
        await clock.advance(3600 + 600)

    assert job.began == [86_400 + 3600, 86_400 + 7200]


async def test_a_clock_set_back_by_days_does_not_stop_the_crontab() -> None:
    clock = Jumping(start=86_400.0 * 10)
    job = Job(clock)

    async with ticking(Cron(job, '0 * * * *'), clock):
        await clock.advance(10)
        clock.set_s = -86_400 * 5
        await clock.advance(2 * 3600)

    assert job.began == [86_400 * 5 + 3600, 86_400 * 5 + 7200]


async def test_an_error_does_not_end_a_crontab(caplog) -> None:
    clock = ManualClock()

    async def fail() -> None:
        raise ValueError('out of water')

    cron = Cron(fail, '* * * * *')
    async with ticking(cron, clock):
        await clock.advance(120)

    assert (cron.runs, cron.errors) == (2, 2)
    assert caplog.records[0].message == "<Cron fail '* * * * *' UTC> failed: out of water"


async def nothing() -> None:
    pass


async def one_argument(app: object) -> None:
    pass


@pytest.mark.parametrize(
    ('declare', 'error', 'told'),
    [
        (lambda: Timer(nothing, 0), ValueError, 'above 0'),
        (lambda: Timer(nothing, float('inf')), ValueError, 'above 0'),
        (lambda: Timer(nothing, '60'), TypeError, "seconds or a timedelta, got '60'"),
        (lambda: Timer(one_argument, 60), TypeError, 'one_argument is called with 0 arguments'),
        (lambda: Timer(None, 60), TypeError, 'must be a function'),
        (lambda: Timer(nothing, 60, on_error=nothing), TypeError, 'on_error of nothing'),
        (lambda: Timer(nothing, 60, on_error='log'), TypeError, 'must be a function'),
        (lambda: Timer(nothing, 60, overlap='both'), ValueError, "overlap must be 'skip'"),
        (lambda: Timer(nothing, 60, jitter=1), TypeError, 'jitter'),
        (lambda: Cron(nothing, '0 25 * * *'), ValueError, 'hour'),
        (lambda: Cron(nothing, '0 2 * * *', 'Nowhere'), ValueError, 'zone'),
        (lambda: interval_of(), TypeError, 'once'),
        (lambda: interval_of(60.0, 60.0), TypeError, 'once'),
        (lambda: interval_of(-1), ValueError, 'above 0'),
    ],
)
def test_a_wrong_declaration_is_told_at_once(
    declare: Callable[[], object], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        declare()


def test_an_interval_is_given_in_one_of_three_ways() -> None:
    assert interval_of(60) == interval_of(seconds=60.0) == interval_of(interval=60.0) == 60.0
    assert interval_of(timedelta(minutes=1)) == 60.0
    assert Timer(nothing, timedelta(minutes=1)).interval_s == 60.0


async def test_it_ticks_on_the_real_clock() -> None:
    from service_scaffold.clock import SystemClock

    ran = asyncio.Event()
    timer = Timer(ran.set, 0.01)
    async with ticking(timer, SystemClock()):
        await asyncio.wait_for(ran.wait(), 5)

    assert timer.runs >= 1


@pytest.fixture(autouse=True)
def _warnings_only(caplog) -> None:
    caplog.set_level(logging.WARNING, logger='service_scaffold')
