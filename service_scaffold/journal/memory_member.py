"""Reading logs in memory as a member of a group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from service_scaffold import errors
from service_scaffold.journal import base
from service_scaffold.journal.base import TopicPartition
from service_scaffold.journal.memory_broker import MemoryBroker
from service_scaffold.journal.memory_group import Group
from service_scaffold.journal.memory_network import Connection
from service_scaffold.journal.memory_reader import MemoryReader
from service_scaffold.journal.offsets import join_notes


class MemoryMember(MemoryReader, base.Member):
    """One member of a group.

    It is told only of partitions that leave and that come; those it keeps are read on, except
    while it is being told. Closing tells the others, not its own listener.
    """

    def __init__(
        self,
        broker: MemoryBroker,
        connection: Connection,
        isolation: base.Isolation,
        group: Group,
        listener: base.RebalanceListener,
        *,
        max_pause_s: float,
        timeout_s: float,
    ) -> None:
        super().__init__(broker, connection, isolation)
        self.topics: frozenset[str] = frozenset()
        self.max_pause_s = max_pause_s
        self._generation = -1
        self._group = group
        self._listener = listener
        self._timeout_s = timeout_s
        self._told = 0
        self._fetching = 0
        self._fetched_at = broker.clock.monotonic()
        self._failure: BaseException | None = None

    @property
    def name(self) -> str:
        """Its connection's."""
        return str(self._connection)

    @property
    def generation(self) -> int:
        return self._generation

    @generation.setter
    def generation(self, number: int) -> None:
        self._generation = number

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self._positions)

    @property
    def fetched_at(self) -> float:
        """When a fetch was last under way, in the clock's monotonic seconds."""
        busy = self._fetching or self._told
        return self._broker.clock.monotonic() if busy else self._fetched_at

    async def assign(self, positions: base.Offsets) -> None:
        raise errors.JournalError('A member of a group is given its partitions; use a reader')

    async def subscribe(self, topics: Iterable[str], member_id: str = '') -> None:
        self._check()
        await self._connection.answer(self._timeout_s)
        self.topics = frozenset(topics)
        self._fetched_at = self._broker.clock.monotonic()
        self._group.join(self)

    async def fetch(self, limit: int, timeout_s: float) -> Sequence[base.Record]:
        self._check()
        self._group.look_after()  # we may be the one that was silent for too long
        self._fetched_at = self._broker.clock.monotonic()
        self._fetching += 1
        try:
            if self.topics and self not in self._group.members:
                self._group.join(self)
            records = await super().fetch(limit, timeout_s)
        finally:
            self._fetching -= 1
            self._fetched_at = self._broker.clock.monotonic()
        return records

    async def commit(self, offsets: base.Offsets, notes: base.Notes = base.NO_NOTES) -> None:
        commits = join_notes(offsets, notes)
        self._check()
        await self._connection.answer(self._timeout_s)
        self._group.check(self, commits)
        self._group.commit(commits)

    async def prove(self) -> None:
        self._check()
        await self._connection.answer(self._timeout_s)
        self._group.check(self, self.assignment)
        if self._generation < 0:
            raise errors.GenerationEnded(f'{self.name} is not in the group {self._group.name}')

    async def committed(
        self, partitions: Iterable[TopicPartition]
    ) -> Mapping[TopicPartition, base.Commit | None]:
        wanted = list(partitions)
        self._check()
        await self._connection.answer(self._timeout_s)
        await self._group.wait_until_stable(wanted, self._timeout_s)
        return {where: self._group.offsets.get(where) for where in wanted}

    async def close(self) -> None:
        await super().close()
        self.sever()

    def sever(self) -> None:
        """Leave the group, without a word to our own listener."""
        self._group.leave(self)

    @property
    def _open(self) -> bool:
        return not self._told and self._generation >= 0

    def fail(self, error: BaseException) -> None:
        """The listener has raised: whoever fetches next gets to know."""
        self._failure = error
        self._broker.wake()

    async def revoke(self, partitions: frozenset[TopicPartition]) -> None:
        """The group takes partitions away: tell the listener, and let them go."""
        self._told += 1
        try:
            await self._listener.on_revoked(partitions)
        finally:
            for where in partitions:
                self._positions.pop(where, None)
                self._paused.discard(where)
            self._told -= 1

    async def give(self, partitions: frozenset[TopicPartition]) -> None:
        """The group gives partitions: start where they were committed, or where `seek` says."""
        self._told += 1
        try:
            await self._listener.on_assigning(partitions)
            await self._group.wait_until_stable(partitions, self._timeout_s)
            for where in partitions:
                self._positions[where] = self._first(where)
            await self._listener.on_assigned(partitions)
        finally:
            self._fetched_at = self._broker.clock.monotonic()
            self._told -= 1

    def _first(self, where: TopicPartition) -> int:
        committed = self._group.offsets.get(where)
        if committed is not None:
            return committed.offset
        log = self._log(where)
        return 0 if log is None else log.start

    def _check(self) -> None:
        super()._check()
        if self._failure is not None:
            raise self._failure
