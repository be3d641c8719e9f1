"""One connection to the log: a member of the group, and the tasks of its partitions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.journal.base import (
    Journal,
    Member,
    NewRecord,
    Producer,
    RebalanceListener,
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
from service_scaffold.streams.opening import Key, Opening
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.task import Task
from service_scaffold.streams.tasks import Tasks
from service_scaffold.streams.topic import RecordMetadata
from service_scaffold.streams.topics import Topics
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.workplace import Workplace

LOGGER = logging.getLogger(__name__)

WAIT_S = 0.5


class Session(RebalanceListener):
    """Works on one connection until that is lost.

    Args:
        failed: Told of what the application cannot go on with.
        url: Returns where other workers reach this one.

    Attributes:
        neighbours: The other workers.
        tasks: The partitions that are ours.
        layout: Which topics exist, None before the first look.
        lag: How far it is behind; None before it is in the group.
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
        self.joined = asyncio.Event()
        self.topics = Topics(journal, settings)
        self._topology = topology
        self._settings = settings
        self._journal = journal
        self._opening = opening
        self._workplace = workplace
        self._clock = clock
        self._announcer = Announcer(self, topology, lambda: self.settled, spawn)
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
        self._trouble: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._stopping = False

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
        self._feeding = feeding
        self.lag = Lag(self._journal, self._member, self.tasks, self._clock)
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
        self._stopping = True
        for task in self.tasks.values():
            task.hold()
        await self._rest(self.tasks.values(), limit_s)
        await self._committing.commit(self.tasks.values())

    async def close(self) -> None:
        """End everything; what is not committed happens again. Raises nothing of its own."""
        self._stopping = True
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
        await self.topics.create_own(self._topology)
        topology = self._topology
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
        while self.layout is None or self.layout.missing:
            await self._clock.sleep(self._settings.look_s)
            await self.look()
        await asyncio.get_running_loop().create_future()

    # The group

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Finish what is in hand, commit it, and begin nothing until we know what is ours."""
        await self._settle(self._touched(partitions))

    async def _settle(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            task.hold()
        await self._rest(tasks, self._settings.drain_s)
        await self._committing.commit(tasks)

    async def on_assigning(self, partitions: frozenset[TopicPartition]) -> None:
        """Fence whoever had what comes, so that its last commits can be read."""
        assert self._member is not None
        keys = self._wanted(self._member.assignment | partitions)
        await self._opening.take_over(key for key in keys if key not in self.tasks)

    async def on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """Go on with what has stayed, begin what has come, end what has gone."""
        assert self._member is not None
        assert self._feeding is not None
        self._check_counts(partitions)
        async with self._tasks.changing:
            wanted = self._wanted(self._member.assignment | partitions)
            for key in [key for key in self.tasks if key not in wanted]:
                await self._tasks.end(key)
            for key, topics in wanted.items():
                if key in self.tasks and not await self._goes_on(self.tasks[key], topics):
                    await self._tasks.end(key)
            self._feeding.forget_others()
            for key in wanted:
                if key not in self.tasks:
                    self._tasks.begin(key)
        self._workplace.member_id = self._member.member_id
        self.joined.set()

    def _check_counts(self, partitions: Iterable[TopicPartition]) -> None:
        """See that the topics are those that were counted.

        Raises:
            JournalError: One has more partitions now; on the next connection all is counted again.
        """
        counts = {} if self.layout is None else self.layout.counts
        for topic, number in partitions:
            if number >= counts.get(topic, number + 1):
                raise errors.JournalError(
                    f'{topic} has more than the {counts[topic]} partitions that it had at first'
                )

    def _wanted(self, assignment: Iterable[TopicPartition]) -> dict[Key, set[str]]:
        """Return the tasks that we have all partitions of, with their topics."""
        assert self.layout is not None
        found: dict[Key, set[str]] = {}
        for topic, number in assignment:
            count = self.layout.counts.get(topic)
            if count is not None:
                found.setdefault((count, number), set()).add(topic)
        return {
            key: topics
            for key, topics in found.items()
            if topics
            == {topic.name for agent in self.layout.agents[key[0]] for topic in agent.plan.inputs}
        }

    def _touched(self, partitions: Iterable[TopicPartition]) -> list[Task]:
        wanted = set(partitions)
        return [task for task in self.tasks.values() if not wanted.isdisjoint(task.partitions)]

    async def _goes_on(self, task: Task, topics: set[str]) -> bool:
        """Go on with a task, if nobody else has worked on its partitions meanwhile."""
        assert self._member is not None
        where = task.partitions
        if {topic for topic, _ in where} != topics:
            await self._settle([task])  # a topic more: it begins again, with what it has done
            return False
        if task.phase == 'recovering':
            self._member.pause(where)
            return True
        commits = await self._member.committed(where)
        for partition in where:
            commit = commits[partition]
            if commit is not None and commit.offset != self._left_at(task, partition.topic):
                LOGGER.info('%s was with another worker meanwhile', task)
                return False
        await self._member.seek({p: task.position(p.topic) for p in where})
        paused = () if self._feeding is None else self._feeding.paused
        self._member.resume([p for p in where if p not in paused])
        if not self._stopping:
            task.release()
        return True

    def _left_at(self, task: Task, topic: str) -> int:
        """Return what is committed unless somebody else has worked on a task."""
        if self._settings.guarantee == 'at_most_once':
            return task.position(topic)  # it is committed before it is handled
        return task.committed[topic]

    async def _rest(self, tasks: Iterable[Task], limit_s: float) -> None:
        """Wait until no body is busy, at most so long: real seconds, as what it does is real."""
        tasks = list(tasks)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit_s
        while not all(task.resting for task in tasks):
            left_s = deadline - loop.time()
            if left_s <= 0:
                busy = ', '.join(str(task) for task in tasks if not task.resting)
                LOGGER.warning(
                    'Events in hand did not end within %g s: %s; they are handled again',
                    limit_s,
                    busy,
                )
                return
            await self._topology.until_rest(min(left_s, WAIT_S))

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
        if self._stopping or self._trouble.done() or self._tasks.starting:
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
