"""Background tasks that belong to the application and never outlive it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiohttp import web

from service_scaffold import features

LOGGER = logging.getLogger(__name__)

T = TypeVar('T')

CANCEL_LIMIT_S = 10.0
"""How long `cancel` waits for a task to end."""

_FIRST_ROUND_S = 5.0
_NEXT_ROUND_S = 1.0
_ROUNDS = 3


class TaskScheduler(features.ServiceFeature):
    """Owns tasks: logs the crash of one, and ends them all with the application."""

    def __init__(
        self, app: web.Application, startup: features.Startup = features.Startup.AUTODETECT
    ) -> None:
        super().__init__(app, startup)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {len(self._tasks)} tasks>'

    async def startup(self, app: web.Application) -> None:
        self._closed = False

    async def shutdown(self, app: web.Application) -> None:
        """Cancel every task, again if one resists, and wait for them to end."""
        self._closed = True
        left_s = features.get_lifecycle(app).remaining_s
        for number in range(_ROUNDS):
            if not self._tasks:
                return
            for task in self._tasks:
                task.cancel()
            wait_s = min(_NEXT_ROUND_S, left_s / 5) if number else min(_FIRST_ROUND_S, left_s / 2)
            await asyncio.wait(set(self._tasks), timeout=wait_s)
        if self._tasks:
            names = ', '.join(sorted(task.get_name() for task in self._tasks))
            raise TimeoutError(f'tasks that do not end when cancelled: {names}')

    async def create(
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None
    ) -> asyncio.Task[T]:
        """Run `coro` in a task of the application.

        It may be called as soon as an event loop runs, also before the application has started.
        An exception that ends the task is logged with its traceback.

        Raises:
            RuntimeError: The application has stopped; `coro` is closed.
        """
        return self.spawn(coro, name=name)

    def spawn(self, coro: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Do what `create` does, from a function that is not a coroutine."""
        if self._closed:
            coro.close()
            raise RuntimeError('the application has stopped; no task can be started')
        task = asyncio.create_task(coro, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    async def cancel(self, task: asyncio.Future[T] | None, wait_for: bool = True) -> T | None:
        """Cancel a task, one of ours or any other; None is a no-op.

        Args:
            wait_for: Wait until it has ended, for at most `CANCEL_LIMIT_S` seconds.

        Returns:
            The task's result if it has one; None if it was cancelled, failed, or has not ended.
        """
        if task is None:
            return None
        task.cancel()
        if wait_for and not task.done():
            await asyncio.wait({task}, timeout=CANCEL_LIMIT_S)
        if not task.done():
            if wait_for:
                LOGGER.error('%s did not end when cancelled', task)
            return None
        if task.cancelled() or task.exception() is not None:
            return None
        return task.result()

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            if not task.cancelling():  # nobody wanted that, and it would end without a word
                LOGGER.error('Task %s failed: what it awaited was cancelled', task.get_name())
        elif (error := task.exception()) is not None:
            LOGGER.error('Task %s failed: %s', task.get_name(), error, exc_info=error)


def setup(app: web.Application) -> None:
    """Give `app` a `TaskScheduler`, if it has none.

    Raises:
        RuntimeError: The application has already started, and so would not end its tasks.
    """
    if not features.has(app, TaskScheduler):
        features.add(app, TaskScheduler(app, features.Startup.MANAGED))


def get_scheduler(app: web.Application | web.Request) -> TaskScheduler:
    """Return the scheduler of `app`.

    Raises:
        UnknownFeature: (a KeyError) `setup(app)` was not called.
    """
    return features.get(app, TaskScheduler)


async def create_task(
    app: web.Application | web.Request, coro: Coroutine[Any, Any, T], *, name: str | None = None
) -> asyncio.Task[T]:
    """Run `coro` in a task of `app`; see `TaskScheduler.create`."""
    return await get_scheduler(app).create(coro, name=name)


async def cancel_task(
    app: web.Application | web.Request, task: asyncio.Future[T] | None, wait_for: bool = True
) -> T | None:
    """Cancel a task; see `TaskScheduler.cancel`."""
    return await get_scheduler(app).cancel(task, wait_for)
