"""When checkpoints are made: now and then, and soon where somebody waits for one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.events.stats import Durations
from service_scaffold.streams.task import Task

LOGGER = logging.getLogger(__name__)


class CheckpointStats:
    """Plain counts, since the start.

    Attributes:
        durations: Seconds that a checkpoint of one task took; those without anything to commit
            do not count.
        failed: Those that came to nothing: a rebalance was first, or the connection was lost.
    """

    def __init__(self) -> None:
        self.durations = Durations()
        self.failed = 0


class Committing:
    """Makes checkpoints of tasks.

    Args:
        tasks: Returns those that are ours.
        stats: Where they are counted.
        interval_s: Seconds between checkpoints.
        interrupted: Told of what another connection may mend.
    """

    def __init__(
        self,
        tasks: Callable[[], Iterable[Task]],
        interval_s: float,
        clock: Clock,
        interrupted: Callable[[Exception], None],
        stats: CheckpointStats,
    ) -> None:
        self._tasks = tasks
        self._interval_s = interval_s
        self._clock = clock
        self._interrupted = interrupted
        self._stats = stats
        self._awaited: set[Task] = set()
        self._asked = asyncio.Event()

    async def run(self) -> None:
        """Make checkpoints of all tasks again and again, until cancelled."""
        while True:
            await self._clock.sleep(self._interval_s)
            await self.commit(self._tasks())

    def ask(self, tasks: Iterable[Task]) -> None:
        """Have checkpoints of these made soon."""
        self._awaited.update(tasks)
        self._asked.set()

    async def run_when_asked(self) -> None:
        """Make those that were asked for, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            tasks, self._awaited = self._awaited, set()
            await self.commit(tasks)

    async def commit(self, tasks: Iterable[Task]) -> None:
        """Make a checkpoint of each of these; a rebalance may come before it. Raises nothing."""
        await asyncio.gather(*(self._commit_one(task) for task in list(tasks)))

    async def _commit_one(self, task: Task) -> None:
        began = time.monotonic()  # real seconds, as what it does is real
        try:
            if await task.checkpoint():
                self._stats.durations.add(time.monotonic() - began)
        except errors.GenerationEnded as error:
            self._stats.failed += 1
            LOGGER.debug('%s: a rebalance came before the checkpoint: %s', task, error)
        except Exception as error:
            self._stats.failed += 1
            if task.phase == 'closed':
                LOGGER.debug('%s ended before its checkpoint: %s', task, error)
                return
            if not isinstance(error, errors.ScaffoldError):
                LOGGER.exception('%s: checkpoint failed unexpectedly', task)
            self._interrupted(error)
