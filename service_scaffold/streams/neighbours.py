"""The other workers of the application, seen from one connection of this one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.journal.base import Journal, Producer, TopicPartition, TopicSpec
from service_scaffold.streams.copies import Copies
from service_scaffold.streams.layout import Layout
from service_scaffold.streams.leftovers import Leftovers
from service_scaffold.streams.opening import Key
from service_scaffold.streams.registry import Registry, WorkerInfo, standby_places, workers_topic
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.tables.table import Table
from service_scaffold.streams.task import Task
from service_scaffold.streams.workplace import Workplace

LOGGER = logging.getLogger(__name__)

CHOOSE_S = 1.0
"""How often one looks whether other partitions are to be copied."""
LEAVE_S = 1.0
AGAIN_S = 60.0


class Seat(Protocol):
    """What a worker has in the group."""

    @property
    def generation(self) -> int: ...

    @property
    def tasks(self) -> Mapping[Key, Task]: ...


class Neighbours:
    """Tells the others what this worker has, and keeps copies of what they have.

    Args:
        seat: What we have in the group now.
        workplace: Has our name, and the stores.
        url: Returns where this worker is reached.
        tables: All of the application.

    Attributes:
        id: Of this worker.
        registry: Who there is.
        copies: What is followed here.
        leftovers: What was here once.
        layout: Which topics exist; set by the session.
    """

    def __init__(
        self,
        seat: Seat,
        workplace: Workplace,
        url: Callable[[], str | None],
        settings: StreamSettings,
        tables: Mapping[str, Table],
        journal: Journal,
        clock: Clock,
    ) -> None:
        self.id = workplace.worker_id
        self.layout: Layout | None = None
        self.copies = Copies(journal, workplace.stores, clock, lambda key: key in seat.tasks)
        config = {'cleanup.policy': 'compact'}
        spec = TopicSpec(workers_topic(settings.id), 1, settings.topic_replicas, config)
        self.registry = Registry(journal, spec, clock, self.describe)
        self.leftovers = Leftovers(
            workplace.stores, tables, self._uses, clock, settings.store_kept_s, settings.cleanup_s
        )
        self._url = url
        self._settings = settings
        self._clock = clock
        self._tables = tables
        self._seat = seat

    def describe(self) -> WorkerInfo:
        """Return what the others are told."""
        info = WorkerInfo(self.id, self._url(), self._seat.generation, {}, {}, {})
        for (count, number), task in sorted(self._seat.tasks.items()):
            for partition in task.partitions:
                info.topics.setdefault(partition.topic, []).append(number)
            for table in self.layout.tables(count) if self.layout is not None else ():
                info.tables.setdefault(table.name, []).append(number)
        for name, number in sorted(self.copies.by_place):
            info.copies.setdefault(name, []).append(number)
        return info

    def runs_here(self, kind: str, name: str, number: int) -> bool:
        """Tell whether a partition of `tables` or `topics` is ours, and open."""
        if kind == 'tables':
            return number in self._tables[name].here
        where = TopicPartition(name, number)
        tasks = [task for task in self._seat.tasks.values() if task.phase in ('running', 'held')]
        return any(where in task.partitions for task in tasks)

    def _uses(self, table: Table, number: int) -> bool:
        """Tell whether a partition of a table is ours, or copied, or about to be."""
        return (table.count, number) in self._seat.tasks or self.copies.wants(table, number)

    def choose(self) -> None:
        """Say which partitions are to be copied here: global tables, and standbys."""
        if self.layout is None:
            return
        counted = {
            name: table.count for name, table in self._tables.items() if table.count is not None
        }
        places = {
            (name, number)
            for name, count in counted.items()
            if self._tables[name].is_global
            for number in range(count)
        }
        if self._settings.standbys and self.registry.ready.is_set():
            places.update(standby_places(self.registry, self.id, counted, self._settings.standbys))
        self.copies.want((self._tables[name], number) for name, number in sorted(places))

    def parts(self, producer: Producer) -> list[Coroutine[Any, Any, None]]:
        """Return what has to run until the connection is lost; none of it ends before.

        Without tables there is nothing to share. What keeps workers from knowing each other costs
        standbys and routes, and nothing else.
        """
        if not self._tables:
            return []
        found = [self.copies.run()]
        if self._settings.registry:
            found += [self._meet(producer), self._choose_now_and_then(), self.leftovers.run()]
        return found

    async def _meet(self, producer: Producer) -> None:
        """Take part in the registry; where that is refused, try again now and then.

        Raises:
            ConnectionLost: The connection has ended.
        """
        while True:
            try:
                await self.registry.run(producer, create=self._settings.may_declare)
            except errors.JournalError as error:
                LOGGER.warning(
                    'Workers of this application do not get to know each other, so that there are'
                    ' no standbys, and routes lead nowhere else: %s',
                    error,
                )
                await self._clock.sleep(AGAIN_S)

    async def _choose_now_and_then(self) -> None:
        await self.registry.ready.wait()
        while True:
            self.choose()
            await self._clock.sleep(CHOOSE_S)

    async def leave(self) -> None:
        """Say that this worker goes; bounded in time, raises nothing."""
        try:
            async with asyncio.timeout(LEAVE_S):
                await self.registry.leave()
        except TimeoutError:
            LOGGER.debug('Going without a word: the broker does not answer')
