"""What an application does besides handling events: timers, tasks, pages, commands."""

from __future__ import annotations

import asyncio
import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta, tzinfo
from typing import Any, TypeVar

from service_scaffold.streams import pages as paging
from service_scaffold.streams.commands import Command, make_command
from service_scaffold.streams.cron import Crontab
from service_scaffold.streams.loops import LoopHandle
from service_scaffold.streams.schedule import Cron, OnError, Overlap, Schedule, Timer, interval_of
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.signals import Signal

Function = TypeVar('Function', bound=Callable[..., Any])
Page = TypeVar('Page')


class Duties(ABC):
    """Declares them; a worker does them while it is ready.

    Attributes:
        settings: Of the application.
        schedules: Timers and crontabs, by name.
        tasks: What runs once.
        pages: What is served over HTTP.
        commands: By name.
        on_before_configured, on_configured, on_after_configured: The options are known, and
            nothing runs yet; `(app, conf)` for the second, `(app)` for the others.
        on_worker_init: A worker begins its start: `(app)`.
        on_partitions_assigned, on_partitions_revoked: `(app, partitions)`, which have come or are
            about to leave.
        on_rebalance_complete: All that has come is recovered and runs: `(app)`.
        on_before_shutdown: A worker begins to stop; everything is still open: `(app)`.
        on_produce_message: Before something is sent: `(app)`, and by name topic, key, value (as
            bytes), partition, timestamp (epoch seconds) and headers, a dict that may be changed.
    """

    settings: StreamSettings

    def __init__(self) -> None:
        self.schedules: dict[str, Schedule] = {}
        self.tasks: list[Callable[[], Any]] = []
        self.pages = paging.Pages()
        self.commands: dict[str, Command] = {}
        self.elects = False
        self._zoneless: list[Cron] = []
        self.on_before_configured = Signal('on_before_configured')
        self.on_configured = Signal('on_configured')
        self.on_after_configured = Signal('on_after_configured')
        self.on_worker_init = Signal('on_worker_init')
        self.on_partitions_assigned = Signal('on_partitions_assigned')
        self.on_partitions_revoked = Signal('on_partitions_revoked')
        self.on_rebalance_complete = Signal('on_rebalance_complete')
        self.on_before_shutdown = Signal('on_before_shutdown')
        self.on_produce_message = Signal('on_produce_message')

    @abstractmethod
    def is_leader(self) -> bool:
        """Return whether this worker is the one that does what is done once for all workers."""

    # Time

    @property
    def loop(self) -> LoopHandle:
        """The running event loop; `app.loop()` is the loop itself.

        Raises:
            RuntimeError: None runs: an application has none before its start.
        """
        return LoopHandle(asyncio.get_running_loop())

    def timer(
        self,
        seconds: float | timedelta | None = None,
        *,
        interval: float | timedelta | None = None,
        on_error: OnError | None = None,
        on_leader: bool = False,
        overlap: Overlap = 'skip',
        name: str | None = None,
    ) -> Callable[[Function], Function]:
        """Run a function, sync or async, every so many seconds: `@app.timer(60.0)`.

        The first time comes one interval after the worker is ready.

        Args:
            seconds: The interval; `interval=` is the same.
            on_error: `(timer, exc)`, sync or async; default log it. The timer goes on either way.
            on_leader: Only the leader of the workers runs it.
            overlap: What a tick does while the run before goes on: `skip`, `queue`, `overlap`.
            name: For logs; default the function's.

        Raises:
            TypeError: No interval, or two.
            ValueError: It is not above 0.
        """
        interval_s = interval_of(seconds, interval)

        def declare(function: Function) -> Function:
            run = self._for_leader(function) if on_leader else function
            self._schedule(Timer(run, interval_s, name=name, on_error=on_error, overlap=overlap))
            return function

        return declare

    def crontab(
        self,
        cron_format: str,
        *,
        timezone: str | tzinfo | None = None,
        on_error: OnError | None = None,
        on_leader: bool = False,
        overlap: Overlap = 'skip',
        name: str | None = None,
    ) -> Callable[[Function], Function]:
        """Run a function, sync or async, at the times of a crontab: `@app.crontab('0 9 * * 1-5')`.

        Args:
            cron_format: Five fields, or six, the last being seconds.
            timezone: Name of a zone or a tzinfo; default the option `timezone`, else UTC.
            on_error, on_leader, overlap, name: As for `timer`.

        Raises:
            ValueError: The crontab or the zone is wrong.
        """
        zone = self.settings.timezone if timezone is None else timezone

        def declare(function: Function) -> Function:
            run = self._for_leader(function) if on_leader else function
            cron = Cron(run, cron_format, zone, name=name, on_error=on_error, overlap=overlap)
            if timezone is None:
                self._zoneless.append(cron)
            self._schedule(cron)
            return function

        Crontab(cron_format, zone)  # a mistake is found here, not at the first tick
        return declare

    def task(self, function: Function | None = None, *, on_leader: bool = False) -> Any:
        """Run a function once, when the worker is ready: `@app.task`, `@app.task()`.

        It may run as long as it likes, and is cancelled at the end. What it raises is logged.

        Args:
            on_leader: Only the leader of the workers runs it.
        """
        if function is None:
            return lambda declared: self.task(declared, on_leader=on_leader)
        if not callable(function):
            raise TypeError(f'app.task is put on a function, not on {function!r}')
        self.tasks.append(self._for_leader(function) if on_leader else function)
        return function

    def _schedule(self, schedule: Schedule) -> None:
        name, number = schedule.name, 1
        while name in self.schedules:
            number += 1
            name = f'{schedule.name}#{number}'
        self.schedules[name] = schedule

    def _for_leader(self, function: Function) -> Function:
        self.elects = True

        @functools.wraps(function)
        async def run() -> Any:
            if not self.is_leader():
                return None
            answer = function()
            return await answer if inspect.isawaitable(answer) else answer

        return run  # type: ignore[return-value]  # called without arguments, as the other is

    def take_zone(self) -> None:
        """Give the crontabs that name no zone that of the settings."""
        for cron in self._zoneless:
            cron.crontab = Crontab(cron.crontab.expression, self.settings.timezone)

    # Around it

    def page(
        self,
        path: str,
        *,
        base: type | None = None,
        cors_options: Mapping[str, Any] | Iterable[str] | None = None,
        name: str | None = None,
    ) -> Callable[[Page], Page]:
        """Serve a function, or a class, at a path: `@app.page('/orders/{order_id}')`.

        A function is called with `web`, `request` and the parameters of the path by their names;
        `web.json(…)`, `web.text(…)` and others make the answer. A class answers each method of
        HTTP with its own method: `async def get(self, request, order_id)`.

        Args:
            base: Class of `web`, or of the class's instances, instead of ours.
            cors_options: Origins that may call this page from a browser, as the keys of a dict.
            name: For `web.url_for`; default the function's.
        """

        def declare(page: Page) -> Page:
            origins = paging.origins_of(cors_options)
            self.pages.add(path, page, base=base, origins=origins, name=name)
            return page

        return declare

    def command(
        self,
        *options: Callable[..., Any],
        base: type | None = None,
        name: str | None = None,
        **settings: Any,
    ) -> Callable[[Function], Function]:
        """Make a function, sync or async, a command of the program: `@app.command()`.

        Args:
            options: Decorators of click: `click.argument('name')`, `click.option('--count')`.
            base: A `click.Command` class.
            name: Default the function's, with hyphens.
            settings: Further arguments of the click command, as `help`.

        Raises:
            ValueError: There is a command of that name.
        """

        def declare(function: Function) -> Function:
            command = make_command(function, options, base, name, settings)
            if command.name in self.commands:
                raise ValueError(f'There is a command {command.name!r} already')
            self.commands[command.name] = command
            return function

        return declare
