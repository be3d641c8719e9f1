"""What a worker runs beside its agents, once it is ready: timers, crontabs, tasks."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from service_scaffold.clock import Clock
from service_scaffold.streams.duties import Duties
from service_scaffold.streams.node import Spawn
from service_scaffold.streams.schedule import STOP_LIMIT_S


class Routines:
    """Runs the schedules and tasks of an application on the clock of its worker.

    Args:
        spawn: Starts a task, and logs what ends it.
    """

    def __init__(self, duties: Duties, clock: Clock, spawn: Spawn) -> None:
        self._duties = duties
        self._clock = clock
        self._spawn = spawn
        self._schedules: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin: timers tick first after one interval."""
        for name, schedule in self._duties.schedules.items():
            self._schedules.append(self._spawn(schedule.run(self._clock), name))
        for function in self._duties.tasks:
            name = getattr(function, '__name__', 'task')
            self._tasks.append(self._spawn(_run(function), f'task {name}'))

    @property
    def busy(self) -> bool:
        """Whether a timer or a crontab has begun a run that has not ended."""
        return any(schedule.running for schedule in self._duties.schedules.values())

    async def close(self) -> None:
        """Tick no more; cancel what runs, and wait for it, at most `STOP_LIMIT_S` and a little."""
        running = [*self._schedules, *self._tasks]
        self._schedules.clear()
        self._tasks.clear()
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=STOP_LIMIT_S + 0.5)


async def _run(function: Callable[[], Any]) -> None:
    answer = function()
    if inspect.isawaitable(answer):
        await answer
