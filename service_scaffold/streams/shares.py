"""What the group gives this worker, and takes away: tasks begin, go on, and end with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence

from service_scaffold import errors
from service_scaffold.journal.base import Commit, Member, RebalanceListener, TopicPartition
from service_scaffold.streams.committing import Committing
from service_scaffold.streams.feeding import Feeding
from service_scaffold.streams.opening import Key, Opening
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.task import Task
from service_scaffold.streams.tasks import Tasks
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.track import read_note
from service_scaffold.streams.workplace import Workplace

LOGGER = logging.getLogger(__name__)

WAIT_S = 0.5


class Shares(RebalanceListener):
    """Follows the group: tasks are held while it shares partitions anew, and go on or end then.

    Attributes:
        member: Who we are in the group; set by the session, with `feeding`, before it joins.
        feeding: Reads for the tasks.
        joined: Set as soon as the group has told which partitions are ours.
        stopping: Whether nothing that was held goes on any more.
    """

    def __init__(
        self,
        topology: Topology,
        settings: StreamSettings,
        tasks: Tasks,
        opening: Opening,
        committing: Committing,
        workplace: Workplace,
    ) -> None:
        self.member: Member | None = None
        self.feeding: Feeding | None = None
        self.joined = asyncio.Event()
        self.stopping = False
        self._topology = topology
        self._settings = settings
        self._tasks = tasks
        self._opening = opening
        self._committing = committing
        self._workplace = workplace

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Finish what is in hand, commit it, and begin nothing until we know what is ours."""
        await self._settle(self._touched(partitions))

    async def _settle(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            task.hold()
        await self.rest(tasks, self._settings.drain_s)
        await self._committing.commit(tasks)

    async def on_assigning(self, partitions: frozenset[TopicPartition]) -> None:
        """Fence whoever had what comes, so that its last commits can be read."""
        assert self.member is not None
        keys = self._wanted(self.member.assignment | partitions)
        await self._opening.take_over(key for key in keys if key not in self._tasks.by_key)

    async def on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """Go on with what has stayed, begin what has come, end what has gone."""
        assert self.member is not None
        assert self.feeding is not None
        self._check_counts(partitions)
        tasks = self._tasks
        async with tasks.changing:
            wanted = self._wanted(self.member.assignment | partitions)
            for key, task in list(tasks.by_key.items()):
                if key not in wanted or not await self._goes_on(task, wanted[key]):
                    await tasks.end(key)
            self.feeding.forget_others()
            for key in wanted:
                if key not in tasks.by_key:
                    tasks.begin(key)
        self._workplace.member_id = self.member.member_id
        self.joined.set()

    def _check_counts(self, partitions: Iterable[TopicPartition]) -> None:
        """See that the topics are those that were counted.

        Raises:
            JournalError: One has more partitions now; on the next connection all is counted again.
        """
        counts = {} if self._tasks.layout is None else self._tasks.layout.counts
        for topic, number in partitions:
            if number >= counts.get(topic, number + 1):
                raise errors.JournalError(
                    f'{topic} has more than the {counts[topic]} partitions that it had at first'
                )

    def _wanted(self, assignment: Iterable[TopicPartition]) -> dict[Key, set[str]]:
        """Return the tasks that we have all partitions of, with their topics."""
        layout = self._tasks.layout
        assert layout is not None
        found: dict[Key, set[str]] = {}
        for topic, number in assignment:
            count = layout.counts.get(topic)
            if count is not None:
                found.setdefault((count, number), set()).add(topic)
        return {key: topics for key, topics in found.items() if topics == layout.read_by(key[0])}

    def _touched(self, partitions: Iterable[TopicPartition]) -> list[Task]:
        wanted = set(partitions)
        return [
            task for task in self._tasks.by_key.values() if not wanted.isdisjoint(task.partitions)
        ]

    async def _goes_on(self, task: Task, topics: set[str]) -> bool:
        """Go on with a task, if nobody else has worked on its partitions meanwhile."""
        assert self.member is not None
        where = task.partitions
        if {topic for topic, _ in where} != topics:
            await self._settle([task])  # a topic more: it begins again, with what it has done
            return False
        if task.phase in ('recovering', 'closed'):
            # It may have given up when the group shared anew, or have been left half ended.
            self.member.pause(where)
            return task.phase == 'recovering' and self._tasks.is_starting(task)
        if not self._is_as_left(task, await self.member.committed(where)):
            LOGGER.info('%s was with another worker meanwhile', task)
            return False
        await self.member.seek({p: task.position(p.topic) for p in where})
        paused = () if self.feeding is None else self.feeding.paused
        self.member.resume([p for p in where if p not in paused])
        if not self.stopping:
            task.release()
        return True

    def _is_as_left(self, task: Task, commits: Mapping[TopicPartition, Commit | None]) -> bool:
        """Tell whether what is committed is what we have committed, and not somebody else."""
        found = {where.topic: commit for where, commit in commits.items() if commit is not None}
        if self._settings.guarantee == 'at_most_once':  # it is committed before it is handled
            return all(commit.offset == task.position(topic) for topic, commit in found.items())
        # Another worker that is held up by the same event commits the same offset.
        number = max((read_note(commit.note).checkpoint for commit in found.values()), default=0)
        return number == task.committed_number and all(
            commit.offset == task.committed[topic] for topic, commit in found.items()
        )

    async def rest(self, tasks: Iterable[Task], limit_s: float) -> None:
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
