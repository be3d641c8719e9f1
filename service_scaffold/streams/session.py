"""One connection to the log: a member of the group, and the tasks of its partitions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.journal.base import (
    Journal,
    Member,
    NewRecord,
    Producer,
    TopicPartition,
)
from service_scaffold.streams.announcing import Announcer
from service_scaffold.streams.committing import Committing
from service_scaffold.streams.feeding import Feeding
from service_scaffold.streams.lag import Lag
from service_scaffold.streams.lane import Lane
from service_scaffold.streams.layout import Layout
from service_scaffold.streams.neighbours import Neighbours
from service_scaffold.streams.node import Spawn
from service_scaffold.streams.opening import Opening
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.shares import Shares
from service_scaffold.streams.task import Task
from service_scaffold.streams.tasks import Tasks
from service_scaffold.streams.topic import RecordMetadata
from service_scaffold.streams.topics import Topics
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.workplace import Workplace

LOGGER = logging.getLogger(__name__)


class Session:
    """Works on one connection until that is lost.

    Args:
        failed: Told of what the application cannot go on with.
        url: Returns where other workers reach this one.

    Attributes:
        neighbours: The other workers.
        tasks: The partitions that are ours.
        layout: Which topics exist, None before the first look.
        lag: How far it is behind; None before it is in the group.
        shares: Follows what the group gives.
        joined: Set as soon as the group has told which partitions are ours.
    """

    def __init__(
        self,
        topology: Topology,
        settings: StreamSettings,
        journal: Journal,
        opening: Opening,
        workplace: Workplace,
        clock: Clock,
        spawn: Spawn,
        failed: Callable[[Exception], None],
        url: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.layout: Layout | None = None
        self.lag: Lag | None = None
        self.topics = Topics(journal, settings)
        self._topology = topology
        self._settings = settings
        self._journal = journal
        self._opening = opening
        self._workplace = workplace
        self._clock = clock
        self._member: Member | None = None
        self._producer: Producer | None = None
        self._feeding: Feeding | None = None
        self.neighbours = Neighbours(
            self, workplace, url, settings, topology.tables, journal, clock
        )
        self._tasks = Tasks(
            opening,
            self.neighbours.copies,
            self.topics.ensure,
            clock,
            spawn,
            failed,
            self._fail,
            self._replied,
        )
        self.tasks = self._tasks.by_key
        self._committing = Committing(
            self.tasks.values, settings.interval_s, clock, self._fail, topology.checkpoints
        )
        self.shares = Shares(topology, settings, self._tasks, opening, self._committing, workplace)
        self.joined = self.shares.joined
        self._announcer = Announcer(self.shares, topology, lambda: self.settled, spawn)
        self._trouble: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    # Life

    async def run(self) -> None:
        """Work until the connection is lost, or something fails that a new one may mend.

        Raises:
            Exception: Why it has ended.
        """
        self._producer = await self._journal.producer()
        self._member = await self._journal.member(
            self._settings.id, self._announcer, max_pause_s=self._settings.max_pause_s
        )
        self.shares.member = self._member
        self._tasks.connected(self._member, self._producer)
        feeding = Feeding(
            self._topology,
            self._settings,
            self._journal,
            self._member,
            self.tasks,
            self._clock,
            lambda: self._committing.ask(self.tasks.values()),
        )
        self._feeding = self.shares.feeding = feeding
        self.lag = Lag(self._journal, self._member, self.tasks)
        await self.look()
        parts: list[Awaitable[Any]] = [
            feeding.run(),
            self._look_now_and_then(),
            self._committing.run(),
            self._committing.run_when_asked(),
            self._topology.calls.serve(self._journal),
            feeding.resume_at_rest(),
            self.lag.run(),
            *self.neighbours.parts(self._producer),
            self._watch(),
        ]
        running = [asyncio.ensure_future(part) for part in parts]
        try:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            for part in running:
                part.cancel()
            await asyncio.gather(*running, return_exceptions=True)  # looks at each error

    async def _watch(self) -> None:
        """Raise what somebody else has come upon."""
        await asyncio.wait({self._trouble, self._journal.lost}, return_when=asyncio.FIRST_COMPLETED)
        raise self._trouble.result() if self._trouble.done() else self._journal.lost.result()

    def _fail(self, error: Exception) -> None:
        if not self._trouble.done():
            self._trouble.set_result(error)

    async def drain(self, limit_s: float) -> None:
        """Begin nothing new, let what runs finish, and commit it."""
        self.shares.stopping = True
        for task in self.tasks.values():
            task.hold()
        await self.shares.rest(self.tasks.values(), limit_s)
        await self._committing.commit(self.tasks.values())

    async def close(self) -> None:
        """End everything; what is not committed happens again. Raises nothing of its own."""
        self.shares.stopping = True
        self._announcer.close()
        await self._tasks.close()
        if self._producer is not None:
            await self.neighbours.leave()
        if self._member is not None:
            await self._member.close()
        if self._producer is not None:
            await self._producer.close()

    async def append(self, record: NewRecord) -> RecordMetadata:
        """Append a record that belongs to no event.

        Raises:
            PublishError: The broker has not confirmed it.
        """
        if self._producer is None:
            raise errors.PublishError('There is no connection yet')
        await self.topics.ensure([record.topic])
        record = record._replace(partition=await self._producer.place(record))
        (outcome,) = await self._producer.produce([record])
        if isinstance(outcome, Exception):
            raise outcome
        return RecordMetadata(record.topic, record.partition, outcome)

    # Topics

    async def look(self) -> None:
        """See which topics there are, and take part in sharing those that are read."""
        assert self._member is not None
        assert self._feeding is not None
        topology = self._topology
        if self.layout is not None:
            await self.topics.check_kept(self.layout)
        await self.topics.match(topology)
        await self.topics.create_own(topology)
        counts = await self._journal.partitions(topology.sources)
        layout = Layout(topology.running, topology.tables.values(), counts, self.topics.default)
        if self.layout is None or layout.topics != self.layout.topics:
            changelogs = [table.changelog for table in topology.tables.values()]
            layout.check_changelogs(await self._journal.partitions(changelogs))
            await self.topics.create_changelogs(layout.counted)
            if layout.missing:
                names = ', '.join(sorted(layout.missing))
                LOGGER.warning('Streams: waiting for topics that do not exist yet: %s', names)
            self.layout = self._feeding.layout = self._tasks.layout = layout
            self.neighbours.layout = layout
            self.neighbours.choose()
            if layout.topics:
                await self._member.subscribe(sorted(layout.topics), self._former_name())
        if not layout.topics:
            self.joined.set()

    def _former_name(self) -> str:
        """Return whom we go on for; once we have joined, we have a name of our own."""
        return '' if self.joined.is_set() else self._workplace.member_id

    async def _look_now_and_then(self) -> None:
        while True:
            settings = self._settings
            await self._clock.sleep(settings.look_s if self.expecting else settings.kept_s)
            await self.look()

    @property
    def expecting(self) -> bool:
        """Whether topics may still come that are to be read."""
        return self.layout is None or bool(self.layout.missing or self._topology.patterns)

    async def restart(self, task: Task) -> None:
        """Close a task, and begin it again at what is committed."""
        await self._tasks.restart(task)

    # Checkpoints

    def _replied(self, task: Task, topics: frozenset[str]) -> None:
        self.topics.replies |= topics
        if self._settings.guarantee == 'exactly_once' or self._settings.publish_on_commit:
            self._committing.ask([task])

    async def flush(self) -> None:
        """Commit now all that is finished."""
        await self._committing.commit(self.tasks.values())

    # How it is

    @property
    def generation(self) -> int:
        """Of the group, as we know it; -1 while we are not in it."""
        return -1 if self._member is None else self._member.generation

    @property
    def settled(self) -> bool:
        """Whether all partitions that are ours are being worked on."""
        if self.shares.stopping or self._trouble.done() or self._tasks.starting:
            return False
        return all(task.phase == 'running' for task in self.tasks.values())

    @property
    def idle(self) -> bool:
        """Whether no body has anything to do with what was fetched."""
        return all(task.at_rest for task in self.tasks.values())

    @property
    def lanes(self) -> list[Lane]:
        """All runs of bodies."""
        return [lane for task in self.tasks.values() for node in task.nodes for lane in node.lanes]

    @property
    def dirty(self) -> bool:
        """Whether something is finished that is not committed."""
        return any(task.dirty for task in self.tasks.values())

    @property
    def backing_off(self) -> bool:
        """Whether somebody pauses before another attempt."""
        return self._tasks.pausing > 0 or any(task.backing_off for task in self.tasks.values())

    def advance(self, now_s: float) -> float | None:
        """Let the stream time of all tables be `now_s` or later; return when something ends next.

        Both are epoch seconds.
        """
        times = [task.times for task in self.tasks.values()]
        for each in times:
            each.advance(round(now_s * 1000))
        found = [each.next_ms for each in times if each.next_ms is not None]
        return min(found) / 1000 if found else None

    async def lags(self) -> bool:
        """Tell whether there are records that have not been fetched."""
        return bool(await self.unread(p for task in self.tasks.values() for p in task.partitions))

    async def unread(self, partitions: Iterable[TopicPartition]) -> set[TopicPartition]:
        """Return those with records that have not been fetched."""
        member = self._member
        if member is None:
            return set()
        where = [partition for partition in partitions if partition in member.assignment]
        ends = await self._journal.offsets(where, 'end') if where else {}
        ours = member.assignment  # it may have changed meanwhile
        return {p for p in where if p in ours and member.position(p) < ends[p]}
