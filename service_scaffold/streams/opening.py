"""Bringing a task to where its partitions were left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.journal.base import Journal, Member, Producer
from service_scaffold.streams import recovery
from service_scaffold.streams.checkpoint import AtLeastOnce, Committer, ExactlyOnce
from service_scaffold.streams.node import Spawn
from service_scaffold.streams.outbox import Ensure, Outbox
from service_scaffold.streams.progress import Progress, RestoreListener, call_recovered
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.state import PartitionState
from service_scaffold.streams.stores.base import Backend
from service_scaffold.streams.tables.table import Table
from service_scaffold.streams.task import Task
from service_scaffold.streams.track import Note, read_note

Key = tuple[int, int]
"""Partition count and number: what a task is found by."""


class Opening:
    """Opens tasks: fences whoever had them, reads their commits, recovers their tables.

    Args:
        listeners: Told of recoveries.

    Attributes:
        delay_s: Pause before a task with tables is opened.
        progress: How far each recovery is, by table and partition, while one goes on.
    """

    def __init__(
        self,
        journal: Journal,
        settings: StreamSettings,
        stores: Backend,
        clock: Clock,
        listeners: Sequence[RestoreListener] = (),
    ) -> None:
        self.progress: dict[tuple[str, int], Progress] = {}
        self._clock = clock
        self._listeners = listeners
        self._fences: dict[Key, Producer] = {}
        self._journal = journal
        self._settings = settings
        self._stores = stores
        self.delay_s = settings.recovery_delay_s

    async def take_over(self, keys: Iterable[Key]) -> None:
        """Make the producers of tasks that are about to come.

        Whoever had a partition is fenced by that, and its open transaction aborted: before that
        nobody can tell what is committed.
        """
        if self._settings.guarantee != 'exactly_once':
            return
        wanted = [key for key in keys if key not in self._fences]
        made = await asyncio.gather(*(self._journal.producer(self._id(key)) for key in wanted))
        self._fences.update(zip(wanted, made, strict=True))

    def _id(self, key: Key) -> str:
        return f'{self._settings.id}-{key[0]}-{key[1]}'

    async def open(
        self,
        task: Task,
        tables: Sequence[Table],
        member: Member,
        producer: Producer,
        ensure: Ensure,
        spawn: Spawn,
        release: Callable[[Table, int], bool] = lambda table, number: False,
    ) -> None:
        """Open a task, and start its agents.

        Args:
            release: Lets go of the store of a partition that was a copy so far; tells whether it
                was whole. That of a global table is read on while it is recovered.

        Raises:
            GenerationEnded: It is not ours any more.
            OffsetsLost: What is committed is no longer in the log.
            ConnectionLost: The connection has ended.
        """
        committer = await self._committer(task, member, producer, ensure, spawn)
        states: dict[str, PartitionState] = {}
        try:
            commits = await self._commits(task, member)
            committed = max((note.checkpoint for _, note in commits.values()), default=0)
            for table in tables:
                whole = release(table, task.number)
                state = states[table.name] = PartitionState(
                    table.name,
                    task.number,
                    self._stores.open(table.name, task.number),
                    table.logged(task.number),
                )
                state.record_bytes = self._settings.record_bytes
                state.keeper = table.keeper(state)
                if whole and table.is_global:
                    table.copies[task.number] = state
            # Without a number all counts. Transactions number nothing, but what was logged before
            # the application was made exactly-once may be numbered.
            known = committed or None
            await asyncio.gather(
                *(self._recover(table, states[table.name], known) for table in tables)
            )
        except BaseException:
            for table in tables:
                if task.number in table.copies and table.is_global:
                    del table.copies[task.number]
            for state in states.values():  # first: the committer may fail, or be waited for in vain
                state.close()
            await committer.close()
            raise
        try:
            task.begin(commits, states, committer, spawn)
        except BaseException:
            await task.close()  # else its stores were in use for whoever tries again
            raise

    async def _committer(
        self, task: Task, member: Member, producer: Producer, ensure: Ensure, spawn: Spawn
    ) -> Committer:
        group = self._settings.id
        if self._settings.guarantee == 'exactly_once':
            key = (task.count, task.number)
            own = self._fences.pop(key, None) or await self._journal.producer(self._id(key))
            return ExactlyOnce(group, member, own, ensure)
        outbox = Outbox(producer, ensure)
        pump = spawn(outbox.pump(), f'sending of {task}')
        offsets = self._settings.guarantee == 'at_least_once'
        hold = self._settings.publish_on_commit
        return AtLeastOnce(member, producer, outbox, pump, ensure, offsets=offsets, hold=hold)

    async def _commits(self, task: Task, member: Member) -> dict[str, tuple[int, Note]]:
        found = await member.committed(task.partitions)
        fresh = [where for where, commit in found.items() if commit is None]
        at = 'first' if self._settings.offset_reset == 'earliest' else 'end'
        begins = await self._journal.offsets(fresh, at) if fresh else {}  # type: ignore[arg-type]
        commits: dict[str, tuple[int, Note]] = {}
        for where, commit in found.items():
            if commit is None:
                commits[where.topic] = (begins[where], Note())
            else:
                commits[where.topic] = (commit.offset, read_note(commit.note))
        await self._check_retained(commits, task)
        return commits

    async def _check_retained(self, commits: dict[str, tuple[int, Note]], task: Task) -> None:
        """Compare what is committed with what the log still has."""
        firsts = await self._journal.offsets(task.partitions, 'first')
        ends = await self._journal.offsets(task.partitions, 'end')
        for where, first in firsts.items():
            committed, note = commits[where.topic]
            end = max(first, ends[where])
            if first <= committed <= end:
                continue
            choice = self._settings.on_offset_lost
            if choice == 'fail':
                has = f'begins at {first}' if committed < first else f'ends at {end}'
                raise errors.OffsetsLost(
                    f'{where.topic}/{where.partition}: {committed} is committed, but the log {has};'
                    ' set on_offset_lost to earliest or latest to go on without',
                    {(where.topic, where.partition): (committed, first)},
                )
            commits[where.topic] = (first if choice == 'earliest' else end, Note(note.checkpoint))

    async def _recover(self, table: Table, state: PartitionState, committed: int | None) -> None:
        key = (state.table, state.partition)
        progress = Progress(*key, self._clock.monotonic, self._listeners)
        self.progress[key] = progress
        try:
            await recovery.recover(self._journal, state, committed, progress)
            progress.end(whole=True)
            await call_recovered(table.recovered, state.partition)
        finally:
            progress.end(whole=False)
            del self.progress[key]
