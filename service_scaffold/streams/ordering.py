"""Letting agents of several topics go on when no topic can bring an earlier record any more."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.journal.base import Journal, Member, TopicPartition
from service_scaffold.streams.task import Task

LOGGER = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""How long records that are known to exist are waited for; after that order is given up."""


class Ordering:
    """Finds out whether topics that hold up others are at their end.

    A topic without a record is waited for only while the broker has records of it that were not
    fetched; whoever may yet write to it is not waited for.

    Attributes:
        waiting: Whether somebody is held up.
    """

    def __init__(self, journal: Journal, member: Member, clock: Clock) -> None:
        self.waiting = False
        self._journal = journal
        self._member = member
        self._clock = clock
        self._ends: dict[TopicPartition, int] = {}
        self._since: dict[TopicPartition, float] = {}

    async def go_on(self, tasks: Iterable[Task]) -> None:
        """Let go on whoever can; nothing is fetched meanwhile."""
        wanted = {task: task.wanted for task in tasks if task.phase == 'running'}
        places = {
            TopicPartition(topic, task.number)
            for task, topics in wanted.items()
            for topic in topics
        }
        self._since = {where: at for where, at in self._since.items() if where in places}
        self.waiting = bool(places)
        if not places:
            return
        # An end that is not reached tells enough; one that is reached may be an old one.
        unsure = [where for where in places if self._reached(where, self._ends.get(where, -1))]
        if unsure:
            self._ends.update(await self._journal.offsets(unsure, 'end'))
        for task, topics in wanted.items():
            numbered = {topic: TopicPartition(topic, task.number) for topic in topics}
            done = [topic for topic, where in numbered.items() if self._is_at_end(where)]
            if done and task.phase == 'running':
                task.flow(done)

    def _is_at_end(self, where: TopicPartition) -> bool:
        if self._reached(where, self._ends[where]):
            self._since.pop(where, None)
            return True
        now = self._clock.monotonic()
        if now - self._since.setdefault(where, now) < PATIENCE_S:
            return False
        LOGGER.warning(
            '%s/%d: no record up to %d came for %g s; others go on without, out of order',
            where.topic,
            where.partition,
            self._ends[where],
            PATIENCE_S,
        )
        return True

    def _reached(self, where: TopicPartition, end: int) -> bool:
        try:
            return self._member.position(where) >= end
        except errors.JournalError:
            return False  # it is being taken away, or given back
