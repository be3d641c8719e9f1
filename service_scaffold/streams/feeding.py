"""Reading the records of our partitions, and holding back where agents cannot follow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.journal.base import Journal, Member, TopicPartition
from service_scaffold.streams.layout import Layout
from service_scaffold.streams.opening import Key
from service_scaffold.streams.ordering import Ordering
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.task import Task
from service_scaffold.streams.topology import Topology

LOGGER = logging.getLogger(__name__)

WAIT_S = 0.5
PAUSED_WAIT_S = 0.02


class Feeding:
    """Fetches for all tasks, and pauses a partition while its agents have enough to do.

    Args:
        tasks: Those that are ours, kept by the session.
        enough: Called when so many records were fetched that a checkpoint shall come early.

    Attributes:
        layout: Which topics exist; set by the session.
        paused: Partitions that are held back.
    """

    def __init__(
        self,
        topology: Topology,
        settings: StreamSettings,
        journal: Journal,
        member: Member,
        tasks: Mapping[Key, Task],
        clock: Clock,
        enough: Callable[[], None],
    ) -> None:
        self.layout: Layout | None = None
        self.paused: set[TopicPartition] = set()
        self._topology = topology
        self._settings = settings
        self._member = member
        self._tasks = tasks
        self._ordering = Ordering(journal, member, clock)
        self._enough = enough
        self._fetched = 0

    async def run(self) -> None:
        """Fetch until the connection is lost."""
        member = self._member
        while True:
            wait_s = PAUSED_WAIT_S if self.paused or self._ordering.waiting else WAIT_S
            runs = await member.fetch_runs(self._fetch_limit, wait_s)
            if runs:
                await self._hand_out(runs)
                self._count(sum(len(run) for run in runs.values()))
            await self._ordering.go_on(self._tasks.values())
            self._resume_some()

    @property
    def _fetch_limit(self) -> int:
        """How much one fetch may bring to an agent that is half as far ahead as it may be."""
        leads = [
            task.lead(topic) // 2 for task in self._tasks.values() for topic, _ in task.partitions
        ]
        return min((self._settings.fetch_limit, *leads))

    def _count(self, records: int) -> None:
        every = self._settings.checkpoint_every
        self._fetched += records
        if every is not None and self._fetched >= every:
            self._fetched = 0
            self._enough()

    async def resume_at_rest(self) -> None:
        """Resume as soon as an agent has nothing to do, whatever the fetch is waiting for."""
        while True:
            await self._topology.until_rest(WAIT_S)
            self._resume_some()

    def forget_others(self) -> None:
        """Forget what was held back of partitions that are not ours any more."""
        self.paused &= self._member.assignment

    def _task(self, where: TopicPartition) -> Task | None:
        count = self.layout.counts.get(where.topic) if self.layout is not None else None
        return None if count is None else self._tasks.get((count, where.partition))

    async def _hand_out(self, runs: Mapping[TopicPartition, Sequence[Any]]) -> None:
        member = self._member
        if self._settings.guarantee == 'at_most_once':
            try:
                await member.commit({where: run[-1].offset + 1 for where, run in runs.items()})
            except errors.GenerationEnded as error:
                LOGGER.debug('A rebalance came first; records are fetched again: %s', error)
                return
        for where, run in runs.items():
            task = self._task(where)
            if task is None or task.phase not in ('running', 'held'):
                continue
            task.feed(where.topic, run)
            if self._is_full(task, where.topic):
                self.paused.add(where)
                member.pause([where])

    def _is_full(self, task: Task, topic: str) -> bool:
        return task.waiting(topic) > self._limit(topic) or task.ahead(topic) > task.lead(topic) // 2

    def _limit(self, topic: str) -> int:
        return self._topology.maxsize(topic) or self._settings.buffer

    def _resume_some(self) -> None:
        for where in list(self.paused):
            task = self._task(where)
            if task is None:
                self.paused.discard(where)
            elif task.phase == 'running' and (
                task.waiting(where.topic) <= self._limit(where.topic) // 2
                and (
                    task.ahead(where.topic) <= task.lead(where.topic) // 4
                    or task.asks_for_more(where.topic)
                )
            ):
                self.paused.discard(where)
                self._member.resume([where])
