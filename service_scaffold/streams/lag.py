"""How far this worker is behind what its partitions have."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping

from service_scaffold import errors
from service_scaffold.journal.base import Journal, Member, TopicPartition
from service_scaffold.streams.opening import Key
from service_scaffold.streams.task import Task

LOGGER = logging.getLogger(__name__)

LOOK_S = 2.0
"""How often the broker is asked where partitions end: one request for all of them."""


class Lag:
    """Counts what is not committed yet; asking for it costs the broker nothing.

    Args:
        tasks: Those that are ours, kept by the session.
    """

    def __init__(self, journal: Journal, member: Member, tasks: Mapping[Key, Task]) -> None:
        self._journal = journal
        self._member = member
        self._tasks = tasks
        self._ends: Mapping[TopicPartition, int] = {}

    async def run(self) -> None:
        """Look where partitions end, again and again, until cancelled."""
        while True:
            try:
                await self._look()
            except (errors.ScaffoldError, TimeoutError) as error:
                LOGGER.debug('Lags are not known while the broker is away: %s', error)
            await asyncio.sleep(LOOK_S)  # not the clock's: looking is no event of a test's time

    async def _look(self) -> None:
        where = [partition for task in self._running for partition in task.partitions]
        self._ends = await self._journal.offsets(where, 'end') if where else {}

    @property
    def _running(self) -> Iterable[Task]:
        return [task for task in self._tasks.values() if task.phase in ('running', 'held')]

    def by_partition(self) -> Iterator[tuple[TopicPartition, int]]:
        """Yield how many records of each partition are not committed, counted in offsets.

        That is what was not fetched of those that were there at the last look, and what is in hand
        or was not committed yet. Nothing is told of a partition before the first look at it.
        """
        for task in self._running:
            for where in task.partitions:
                end = self._ends.get(where)
                if end is None or where not in self._member.assignment:
                    continue
                try:
                    unread = max(0, end - self._member.position(where))
                except errors.JournalError:
                    continue  # assigned, and about to be sought
                yield where, unread + task.position(where.topic) - task.committed[where.topic]
