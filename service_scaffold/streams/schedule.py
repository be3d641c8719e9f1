"""Timers and crontabs: functions that run again and again."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta, tzinfo
from typing import Any, Literal, get_args

from service_scaffold.clock import Clock
from service_scaffold.streams.cron import Crontab

LOGGER = logging.getLogger(__name__)

Overlap = Literal['skip', 'queue', 'overlap']
"""What a tick does while the run before goes on: nothing, wait for its end, or run beside it."""

STOP_LIMIT_S = 5.0
"""How long a stop waits for cancelled runs to end."""

_LOOK_S = 300.0  # a crontab looks at least that often whether the clock was set
_SET_BACK_S = 3 * 3600.0  # a clock set back by less is only waited for

Callback = Callable[[], Any]
OnError = Callable[[Any, Exception], Any]


class Schedule(ABC):
    """Runs a function, sync or async, at its ticks.

    Ticks that pass while the event loop is blocked, or the machine asleep, come to one run; the
    others count as skipped.

    Args:
        callback: Called without arguments.
        name: For logs; None means the name of `callback`.
        on_error: Called with the schedule and the exception that a run has raised; sync or async.
            By default the exception is logged. Whatever happens, the schedule goes on.
        overlap: What a tick does while the run before goes on.

    Attributes:
        runs: How many have begun.
        errors: How many have raised.
        skipped: How many ticks have come to no run.
        pending: How many ticks wait for the run before to end; only with `queue`.

    Raises:
        TypeError: `callback` or `on_error` cannot be called with those arguments.
        ValueError: `overlap` is none of the three.
    """

    def __init__(
        self,
        callback: Callback,
        *,
        name: str | None = None,
        on_error: OnError | None = None,
        overlap: Overlap = 'skip',
    ) -> None:
        if overlap not in get_args(Overlap):
            raise ValueError(f"overlap must be 'skip', 'queue' or 'overlap', got {overlap!r}")
        self.name = name or getattr(callback, '__name__', None) or repr(callback)
        _check_call(self.name, callback)
        if on_error is not None:
            _check_call(f'on_error of {self.name}', on_error, self, Exception())
        self.callback = callback
        self.on_error = on_error
        self.overlap: Overlap = overlap
        self.runs = 0
        self.errors = 0
        self.skipped = 0
        self.pending = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._warned = False

    @property
    def running(self) -> bool:
        """Whether a run has begun and not ended."""
        return bool(self._tasks)

    async def run(self, clock: Clock) -> None:
        """Tick until cancelled; then cancel what runs, and wait for it for `STOP_LIMIT_S`."""
        try:
            await self._tick_forever(clock)
        finally:
            await self._end()

    @abstractmethod
    async def _tick_forever(self, clock: Clock) -> None: ...

    def _tick(self, missed: int = 0) -> None:
        self.skipped += missed
        if not self._tasks or self.overlap == 'overlap':
            self._start()
        elif self.overlap == 'queue':
            self.pending += 1
        else:
            self.skipped += 1
            if not self._warned:  # once for each run that takes too long
                self._warned = True
                LOGGER.warning('%s is still running; ticks are skipped until it ends', self)

    def _start(self) -> None:
        self._warned = False
        task = asyncio.create_task(self._run_once(), name=self.name)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self.pending:
            self.pending -= 1
            self._start()

    async def _run_once(self) -> None:
        self.runs += 1
        try:
            await _result(self.callback())
        except asyncio.CancelledError as cancelled:
            if _is_cancelled():
                raise
            # Something that the function waited for was cancelled, not the function.
            error = RuntimeError(f'what {self.name} waited for was cancelled')
            error.__cause__ = cancelled
            await self._report(error)
        except Exception as error:  # noqa: BLE001 - reported, and the schedule goes on
            await self._report(error)

    async def _report(self, error: Exception) -> None:
        self.errors += 1
        if self.on_error is None:
            LOGGER.error('%s failed: %s', self, error, exc_info=error)
            return
        try:
            await _result(self.on_error(self, error))
        except Exception as second:  # it must not end the schedule either
            LOGGER.error('%s failed: %s', self, error, exc_info=error)
            LOGGER.error('on_error of %s failed: %s', self, second, exc_info=second)

    async def _end(self) -> None:
        self.pending = 0
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            _, stubborn = await asyncio.wait(set(self._tasks), timeout=STOP_LIMIT_S)
            if stubborn:
                LOGGER.error('%s did not end when cancelled', self)


class Timer(Schedule):
    """Runs a function every `interval_s` seconds, for the first time after one interval.

    The ticks keep to their grid: a late one does not delay the next.

    Args:
        callback: See `Schedule`, as for the options.
        interval_s: Seconds between ticks.

    Raises:
        ValueError: The interval is not a finite number above 0.
    """

    def __init__(self, callback: Callback, interval_s: float | timedelta, **options: Any) -> None:
        self.interval_s = _interval(interval_s)
        super().__init__(callback, **options)

    def __repr__(self) -> str:
        return f'<Timer {self.name} every {self.interval_s:g} s>'

    async def _tick_forever(self, clock: Clock) -> None:
        start = clock.monotonic()
        number = 0
        while True:
            number += 1
            await clock.sleep(start + number * self.interval_s - clock.monotonic())
            missed = max(int((clock.monotonic() - start) / self.interval_s) - number, 0)
            number += missed
            self._tick(missed)


class Cron(Schedule):
    """Runs a function at the times of a crontab.

    Args:
        callback: See `Schedule`, as for the options.
        expression: The crontab; see `cron.Crontab`.
        timezone: Name of a zone or a tzinfo; None means UTC.

    Raises:
        ValueError: The crontab or the zone is wrong; the field is named.
    """

    def __init__(
        self,
        callback: Callback,
        expression: str,
        timezone: str | tzinfo | None = None,
        **options: Any,
    ) -> None:
        self.crontab = Crontab(expression, timezone)
        super().__init__(callback, **options)

    def __repr__(self) -> str:
        return f'<Cron {self.name} {self.crontab}>'

    async def _tick_forever(self, clock: Clock) -> None:
        after = clock.time()
        while True:
            due = await self._wait(clock, after)
            after = clock.time()
            self._tick(self._missed(due, after))

    async def _wait(self, clock: Clock, after: float) -> float:
        """Sleep until the first time due after `after`, and return it."""
        due = self.crontab.next(after)
        while (now := clock.time()) < due:
            if now < after - _SET_BACK_S:
                after = now
                due = self.crontab.next(after)
            await clock.sleep(min(due - now, _LOOK_S))
        return due

    def _missed(self, due: float, now: float) -> int:
        missed = 0
        while missed < 1000 and (due := self.crontab.next(due)) <= now:  # a clock may leap decades
            missed += 1
        return missed


def interval_of(
    seconds: float | timedelta | None = None, interval: float | timedelta | None = None
) -> float:
    """Return the seconds of `timer(60.0)`, `timer(seconds=60.0)` or `timer(interval=60.0)`.

    Raises:
        TypeError: Both are given, or none, or it is not a number.
        ValueError: It is not finite or not above 0.
    """
    given = [value for value in (seconds, interval) if value is not None]
    if len(given) != 1:
        raise TypeError('timer needs its interval once: timer(60.0), or seconds=, or interval=')
    return _interval(given[0])


def _interval(value: float | timedelta) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f'The interval must be seconds or a timedelta, got {value!r}')
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f'The interval must be above 0 seconds, got {value!r}')
    return float(value)


def _check_call(name: str, function: Any, *arguments: object) -> None:
    """Find at the declaration what would fail at the first tick."""
    if not callable(function):
        raise TypeError(f'{name} must be a function, got {function!r}')
    try:
        signature = inspect.signature(function)
    except ValueError:  # some builtins have none
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        count = len(arguments)
        raise TypeError(f'{name} is called with {count} arguments, but: {error}') from error


async def _result(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
