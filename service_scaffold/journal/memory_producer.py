"""Appending to logs in memory, with transactions that become visible all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from service_scaffold import errors
from service_scaffold.journal import base
from service_scaffold.journal.base import Commit, TopicPartition, TopicSpec
from service_scaffold.journal.memory_broker import MemoryBroker
from service_scaffold.journal.memory_group import Group, GroupMember, Groups
from service_scaffold.journal.memory_log import LogRecord, Partition, size_of
from service_scaffold.journal.memory_member import MemoryMember
from service_scaffold.journal.memory_network import Connection
from service_scaffold.journal.offsets import join_notes
from service_scaffold.journal.partitioner import Partitioner, partition_of


class Transaction:
    """Records and offsets that belong together, not visible yet."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._records: dict[str, list[LogRecord]] = {}
        self._partitions: dict[Partition, None] = {}
        self._commits: list[tuple[Group, Mapping[TopicPartition, Commit]]] = []

    def append(self, partition: Partition, record: LogRecord) -> None:
        """Append a record that only readers of uncommitted records see."""
        partition.append_unstable(record, size_of(record), self)
        self._partitions[partition] = None
        self._records.setdefault(record.topic, []).append(record)

    def send_offsets(
        self,
        group: Group,
        commits: Mapping[TopicPartition, Commit],
        member: GroupMember | None,
    ) -> None:
        """Add offsets to be committed; GenerationEnded if they are not the member's.

        It is asked only now, as on Kafka: who gets the partitions next waits for our end.
        """
        group.check(member, commits)
        group.hold(self, commits)
        self._commits.append((group, commits))

    def commit(self) -> None:
        """Make everything visible."""
        self._finish(committed=True)
        for group, commits in self._commits:
            group.commit(commits)
        self._release()
        for topic, records in self._records.items():
            if topic in self._broker.topics:
                self._broker.appended(topic, records)

    def abort(self) -> None:
        """Drop everything."""
        self._finish(committed=False)
        self._release()
        self._broker.wake(self._records)

    def _release(self) -> None:
        for group, _ in self._commits:
            group.release(self)

    def _finish(self, *, committed: bool) -> None:
        for partition in self._partitions:
            records = self._records.get(partition.topic, [])
            mine = [record for record in records if record.partition == partition.number]
            partition.finish(self, mine, committed=committed)


class Coordinator:
    """Knows which producer has a transactional id."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._owners: dict[str, MemoryProducer] = {}

    def take(self, transactional_id: str, producer: MemoryProducer) -> None:
        """Give an id to a producer; the one before is fenced, its transaction aborted."""
        previous = self._owners.get(transactional_id)
        if previous is not None:
            previous.drop()
        self._owners[transactional_id] = producer

    def owns(self, transactional_id: str, producer: MemoryProducer) -> bool:
        """Tell whether the id is still this producer's."""
        return self._owners.get(transactional_id) is producer


class MemoryProducer(base.Producer):
    """Appends records. Unknown topics are created, those that were deleted are not.

    Attributes:
        closed: Whether `close` was called.
    """

    def __init__(
        self,
        broker: MemoryBroker,
        connection: Connection,
        transactional_id: str | None,
        timeout_s: float,
        partitioner: Partitioner = partition_of,
    ) -> None:
        self._broker = broker
        self._choose = partitioner
        self._connection = connection
        self._id = transactional_id
        self._timeout_s = timeout_s
        self._coordinator = broker.companion(Coordinator, Coordinator)
        self._transaction: Transaction | None = None
        self.closed = False
        if transactional_id is not None:
            self._coordinator.take(transactional_id, self)

    async def produce(
        self,
        records: Sequence[base.NewRecord],
        on_confirm: Callable[[Sequence[int]], None] | None = None,
    ) -> list[int | Exception]:
        await asyncio.sleep(0)
        await self._reach('appending records')
        if self._id is not None and self._transaction is None:
            raise errors.JournalError('appending records: begin a transaction first')
        await self._room({record.topic for record in records})
        appended: dict[str, list[LogRecord]] = {}
        outcome = [self._append(record, appended) for record in records]
        for topic, visible in appended.items():
            if self._transaction is None:
                self._broker.appended(topic, visible)
        if self._transaction is not None:
            self._broker.wake(appended)
        if on_confirm is not None:
            on_confirm([p for p, one in enumerate(outcome) if isinstance(one, int)])
        return outcome

    async def place(self, record: base.NewRecord) -> int:
        await self._reach('looking for a partition')
        if record.partition is not None:
            return record.partition
        topic = self._broker.topics.get(record.topic) or self._broker.topic(TopicSpec(record.topic))
        return topic.choose(record.key)

    async def largest(self, topic: str) -> int | None:
        found = self._broker.topics.get(topic)
        return None if found is None else found.largest

    async def begin(self) -> None:
        await self._reach('beginning a transaction')
        if self._id is None or self._transaction is not None:
            raise errors.JournalError(
                'beginning a transaction: '
                + ('one is open' if self._id else 'the producer has no transactional id')
            )
        self._transaction = Transaction(self._broker)

    async def send_offsets(
        self,
        group: str,
        offsets: base.Offsets,
        member: base.Member | None = None,
        notes: base.Notes = base.NO_NOTES,
    ) -> None:
        commits = join_notes(offsets, notes)
        transaction = await self._open_transaction('committing offsets in a transaction')
        found = self._broker.companion(Groups, Groups)[group]
        transaction.send_offsets(found, commits, _group_member(member))

    async def commit(self) -> None:
        transaction = await self._open_transaction('committing a transaction')
        self._transaction = None
        transaction.commit()

    async def abort(self) -> None:
        await self._open_transaction('aborting a transaction')
        self.drop()

    async def close(self) -> None:
        self.closed = True
        self.drop()

    def drop(self) -> None:
        """Abort the open transaction, if there is one."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.abort()

    def _append(
        self, record: base.NewRecord, appended: dict[str, list[LogRecord]]
    ) -> int | Exception:
        topic = self._broker.topics.get(record.topic)
        if topic is None:
            if record.topic in self._broker.deleted:
                return errors.BindingRefused(f'Topic {record.topic} was deleted')
            topic = self._broker.topic(TopicSpec(record.topic))
        number = record.partition
        if number is None:
            number = topic.choose(record.key, self._choose)
        if not 0 <= number < len(topic.partitions):
            return errors.PublishError(
                f'Topic {record.topic} has no partition {number}', phase='confirm', maybe_sent=False
            )
        if self._broker.network.refuse():
            return errors.PublishError(f'{self._broker} refuses {record.topic}', phase='confirm')
        if len(record.key or b'') + len(record.value or b'') > topic.largest:
            return errors.TooLarge(
                f'{record.topic} takes no records of more than {topic.largest} bytes'
            )
        if topic.compact and record.key is None:
            return errors.InvalidRecord(f'{record.topic} is compacted: each record needs a key')
        partition = topic.partitions[number]
        timestamp = self._broker.now_ms() if record.timestamp is None else record.timestamp
        stored = LogRecord(
            record.topic,
            number,
            partition.end,
            timestamp,
            record.key,
            record.value,
            tuple(record.headers),
        )
        if self._transaction is None:
            partition.append(stored, size_of(stored))
        else:
            self._transaction.append(partition, stored)
        appended.setdefault(record.topic, []).append(stored)
        return stored.offset

    async def _open_transaction(self, action: str) -> Transaction:
        await asyncio.sleep(0)
        await self._reach(action)
        if self._transaction is None:
            raise errors.JournalError(f'{action}: none is open')
        return self._transaction

    async def _reach(self, action: str) -> None:
        if self.closed:
            raise errors.ConnectionLost(f'{action}: the producer is closed')
        await self._connection.answer(self._timeout_s)
        if self._id is not None and not self._coordinator.owns(self._id, self):
            raise errors.Fenced(f'{action}: a newer producer has the transactional id {self._id}')

    async def _room(self, topics: set[str]) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                for hook in self._broker.wait_for_room:
                    await hook(topics)
        except TimeoutError:
            raise errors.ConnectionLost(
                f'A queue that takes from {_any(topics)} is full; nothing was appended within'
                f' {self._timeout_s:g} s'
            ) from None


def _group_member(member: base.Member | None) -> GroupMember | None:
    if member is None or isinstance(member, MemoryMember):
        return member
    raise errors.JournalError('The member is not one of a journal in memory')


def _any(topics: Iterable[str]) -> str:
    return ', '.join(sorted(topics))
