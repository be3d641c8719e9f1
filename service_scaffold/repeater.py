"""A feature that does the same thing again and again."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable

from aiohttp import web

from service_scaffold import backoff, clock, errors, features, scheduler
from service_scaffold.errors import RepeaterCancelled

LOGGER = logging.getLogger(__name__)

__all__ = ['RepeaterCancelled', 'RepeaterFeature']


class RepeaterFeature(features.ServiceFeature):
    """Calls `prepare()` once and then `run()` on repeat, in a task of the application.

    `run` does its own waiting, best with `await self.clock.sleep(5)`. While it fails it is called
    again after growing pauses; the first error of a series is logged, and the recovery.
    `RepeaterCancelled`, raised in either method, ends the repeating quietly.

    Attributes:
        backoff: The pauses while `run` fails.
    """

    backoff = backoff.Backoff(base_s=0.5, max_s=30.0)

    def __init__(
        self, app: web.Application, startup: features.Startup = features.Startup.AUTODETECT
    ) -> None:
        if features.get_lifecycle(app).can_manage:
            scheduler.setup(app)  # made first, so that it starts before us and stops after us
        super().__init__(app, startup)
        self._task: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        return f'<{type(self).__name__}>'

    @property
    def active(self) -> bool:
        """Whether it is preparing or repeating."""
        return self._task is not None and not self._task.done()

    @property
    def clock(self) -> clock.Clock:
        """The clock of the application."""
        return features.get_clock(self.app)

    @abstractmethod
    async def prepare(self) -> None:
        """Called once before the first `run`. An error here is logged and final."""

    @abstractmethod
    async def run(self) -> None:
        """Called again and again."""

    async def startup(self, app: web.Application) -> None:
        """Start repeating; while it is active, end that and start anew, `prepare` included."""
        await self._cancel()
        self._task = await scheduler.create_task(app, self._repeat(), name=type(self).__name__)

    async def before_shutdown(self, app: web.Application) -> None:
        """End the repeating, while everything else is still open."""
        await self._cancel()

    async def shutdown(self, app: web.Application) -> None:
        """End the repeating, also where a subclass overrides `before_shutdown`."""
        await self._cancel()

    async def _cancel(self) -> None:
        task, self._task = self._task, None
        await scheduler.cancel_task(self.app, task)

    async def _repeat(self) -> None:
        try:
            await _call(self.prepare)
            await self._run_forever()
        except errors.RepeaterCancelled:
            LOGGER.info('%s has ended', self)

    async def _run_forever(self) -> None:
        failures = 0
        while True:
            try:
                await _call(self.run)
            except errors.RepeaterCancelled:
                raise
            except Exception as error:  # whatever it is, it is tried again
                failures += 1
                if failures == 1:
                    # An outage is expected, and its error says all; others may be bugs in run().
                    outage = isinstance(error, errors.EventError)
                    LOGGER.error('%s failed: %s', self, error, exc_info=None if outage else error)
                await self.clock.sleep(self.backoff.delay(failures))
            else:
                if failures:
                    LOGGER.info('%s works again after %d failures', self, failures)
                failures = 0
                await asyncio.sleep(0)  # a run() that never waits must not stop everything else


async def _call(method: Callable[[], Awaitable[None]]) -> None:
    """Await one call; that something it awaits was cancelled is a failure of it, and not our end.

    Raises:
        RuntimeError: Instead of a CancelledError that nobody meant for this task.
    """
    try:
        await method()
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError('what it awaited was cancelled') from error
