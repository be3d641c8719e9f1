"""The journal port: a partitioned, append-only log with groups, offsets and transactions.

Kafka is one; `journal.memory` is one in the process. The Kafka event transport and the streams
stand on it. Times are integer milliseconds since the epoch, as in Kafka. Like a transport, a
journal is fragile by design: it raises, says through `lost` that the connection has ended, and is
thrown away then.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from service_scaffold.journal.offsets import (
    NO_NOTES,
    NOTE_LIMIT,
    Commit,
    Notes,
    Offsets,
    TopicPartition,
)
from service_scaffold.journal.records import Headers, NewRecord, Record, TopicSpec

__all__ = [
    'NOTE_LIMIT',
    'NO_NOTES',
    'Commit',
    'Headers',
    'Isolation',
    'Journal',
    'Member',
    'NewRecord',
    'Notes',
    'Offsets',
    'Producer',
    'Reader',
    'RebalanceListener',
    'Record',
    'TopicPartition',
    'TopicSpec',
]


class RebalanceListener(ABC):
    """Told by a member when its partitions change. Both are awaited before reading goes on.

    Kafka takes all partitions away and gives all that the member has from then on; a journal in
    memory tells only of those that leave and those that come. A listener must bear both.
    """

    @abstractmethod
    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """These leave (never none). In here the member still lists them as its assignment.

        Mostly they are about to leave: `generation` is valid, and what is committed in here
        counts. When the group has thrown the member out, because its session has ended or it has
        not fetched for `max_pause_s`, they have left already: `generation` is -1, every commit
        raises GenerationEnded, and others may have gone on from the last commit. It is told as
        soon as the member notices, at the latest with the `fetch` that makes it join again.
        """

    async def on_assigning(  # noqa: B027 - optional
        self, partitions: frozenset[TopicPartition]
    ) -> None:
        """These are about to come, and their commits have not been read.

        An open transaction of whoever had them would hold that up: fence it here, with a producer
        of the same transactional id. By default nothing is done.
        """

    @abstractmethod
    async def on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """These have come; reading starts at the committed offsets, or where `seek` says.

        None have where some have left and nothing has come for them: the rebalance has ended.
        Awaited only when no open transaction can change these offsets any more.
        """


class Reader(ABC):
    """Reads given partitions without a group."""

    @abstractmethod
    async def assign(self, positions: Offsets) -> None:
        """Read exactly these partitions from these offsets on; those kept go on where they are."""

    @abstractmethod
    async def fetch(self, limit: int, timeout_s: float) -> Sequence[Record]:
        """Return up to `limit` records, in order per partition; empty after `timeout_s`.

        Raises:
            OffsetsLost: A position is no longer in the log.
            ConnectionLost: The connection has ended.
        """

    async def fetch_runs(
        self, limit: int, timeout_s: float
    ) -> Mapping[TopicPartition, Sequence[Record]]:
        """As `fetch`, with the records by partition."""
        runs: dict[TopicPartition, list[Record]] = {}
        for record in await self.fetch(limit, timeout_s):
            runs.setdefault(TopicPartition(record.topic, record.partition), []).append(record)
        return runs

    @abstractmethod
    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Leave these out of `fetch`."""

    @abstractmethod
    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these again, from where they were left."""

    @abstractmethod
    def position(self, partition: TopicPartition) -> int:
        """Return the offset of the next record that `fetch` would give."""

    @abstractmethod
    async def seek(self, positions: Offsets) -> None:
        """Go on from these offsets."""

    @abstractmethod
    async def close(self) -> None:
        """End reading. Idempotent, bounded in time, raises nothing."""


class Member(Reader):
    """Reads as one member of a group: the partitions are given, and change."""

    @property
    @abstractmethod
    def generation(self) -> int:
        """Number of the group's current generation; -1 while not joined."""

    @property
    @abstractmethod
    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions that are ours, as far as we know: from the beginning of `on_assigned` to
        the end of `on_revoked`. Only a commit tells whether they still are."""

    @property
    def member_id(self) -> str:
        """The group's name for us; empty before joining, and where there are no such names."""
        return ''

    @abstractmethod
    async def subscribe(self, topics: Iterable[str], member_id: str = '') -> None:
        """Take part in sharing these topics (all of them; replaces what was asked before).

        Args:
            member_id: The group's name for an earlier member that we go on for, since it has died:
                else the group would wait for that one until its session ends.
        """

    @abstractmethod
    async def commit(self, offsets: Offsets, notes: Notes = NO_NOTES) -> None:
        """Store the offsets of the *next* record to read, for the group. Bounded in time.

        Before `subscribe` it fixes where the group begins, as long as the group has no members.

        Args:
            notes: A text stored with an offset, in the same step; none replaces the one before.

        Raises:
            GenerationEnded: The group has rebalanced; these partitions may be someone else's. Or
                it has members, and we are none.
            ConnectionLost: The broker did not answer.
            JournalError: A note is longer than `NOTE_LIMIT`; nothing was sent.
        """

    @abstractmethod
    async def prove(self) -> None:
        """Ask the group whether we are a member of its current generation. Bounded in time.

        A process that stood still, and was given up by the group, does not know it yet.

        Raises:
            GenerationEnded: We are not, or the group does not answer.
            ConnectionLost: The broker did not answer in time.
        """

    @abstractmethod
    async def committed(
        self, partitions: Iterable[TopicPartition]
    ) -> Mapping[TopicPartition, Commit | None]:
        """Return what the group has committed; None where nothing is committed.

        Waits, within the journal's limit of a request, until no open transaction can change it.

        Raises:
            ConnectionLost: The broker did not answer in time.
            JournalError: Such a transaction did not end in time.
        """


class Producer(ABC):
    """Appends records; with a transactional id in transactions."""

    @abstractmethod
    async def produce(
        self,
        records: Sequence[NewRecord],
        on_confirm: Callable[[Sequence[int]], None] | None = None,
    ) -> list[int | Exception]:
        """Append records, all on their way at once; return an offset or an error for each.

        Records of one partition stay in order. `on_confirm(positions)` is called as confirms come.

        Raises:
            Fenced: A newer producer has the transactional id.
            ConnectionLost: The connection has ended.
        """

    @abstractmethod
    async def place(self, record: NewRecord) -> int:
        """Return the partition of a record: its own, that of its key, or the next in turn.

        Raises:
            BindingRefused: The topic does not exist.
            ConnectionLost: The broker did not answer in time.
        """

    async def largest(self, topic: str) -> int | None:
        """Return how many bytes a topic takes in one piece, None where that is not known.

        Raises:
            ConnectionLost: The broker did not answer in time.
        """
        return None

    def forget(self, topics: Iterable[str]) -> None:  # noqa: B027 - optional
        """Keep nothing of these topics: they may be deleted, and are not to come back by that."""

    @abstractmethod
    async def begin(self) -> None:
        """Begin a transaction."""

    @abstractmethod
    async def send_offsets(
        self,
        group: str,
        offsets: Offsets,
        member: Member | None = None,
        notes: Notes = NO_NOTES,
    ) -> None:
        """Commit a group's offsets and notes as part of the transaction.

        Until it ends, nobody gets to know what the group has committed of these partitions.

        Args:
            member: Its generation must be the group's now; it may end before the transaction.
            notes: As in `Member.commit`.

        Raises:
            GenerationEnded: The partitions are not the member's any more; abort.
            JournalError: A note is longer than `NOTE_LIMIT`; nothing was sent.
        """

    @abstractmethod
    async def commit(self) -> None:
        """Make the transaction's records and offsets visible, all at once.

        Raises:
            Fenced: A newer producer has the transactional id; nothing became visible.
        """

    @abstractmethod
    async def abort(self) -> None:
        """Drop the transaction."""

    @abstractmethod
    async def close(self) -> None:
        """End. An open transaction is aborted. Idempotent, bounded in time, raises nothing."""


Isolation = Literal['read_committed', 'read_uncommitted']


class Journal(ABC):
    """One connection to one log."""

    @property
    @abstractmethod
    def lost(self) -> asyncio.Future[Exception]:
        """Done, with the reason as its result, when the broker has been away too long."""

    @abstractmethod
    async def connect(self) -> None:
        """Make the connection. Raises BrokerUnreachable or AccessRefused; the caller bounds it."""

    @abstractmethod
    async def close(self) -> None:
        """End the connection and all that was made by it. Idempotent, ≤ 2 s, raises nothing."""

    @abstractmethod
    async def create(self, topics: Iterable[TopicSpec]) -> None:
        """Create those topics that are missing, and wait until they can be used.

        A topic that exists is left as it is, whatever its options.
        """

    @abstractmethod
    async def delete(self, topics: Iterable[str]) -> None:
        """Delete topics with all that is in them; one that does not exist is passed over."""

    @abstractmethod
    async def partitions(self, topics: Iterable[str]) -> Mapping[str, int | None]:
        """Return how many partitions each topic has; None for a topic that does not exist."""

    @abstractmethod
    async def topics(self, prefix: str = '') -> list[str]:
        """Return the names of the topics that begin so, sorted."""

    @abstractmethod
    async def offsets(
        self, partitions: Iterable[TopicPartition], at: Literal['first', 'end'] | int
    ) -> Mapping[TopicPartition, int]:
        """Return the first offset, the end offset (next to be written, or under read_committed
        the last stable one), or the first one at or after a time in milliseconds (else the end)."""

    @abstractmethod
    async def reader(self, *, isolation: Isolation = 'read_committed') -> Reader:
        """Make a reader without a group."""

    @abstractmethod
    async def member(
        self,
        group: str,
        listener: RebalanceListener,
        *,
        isolation: Isolation = 'read_committed',
        max_pause_s: float = 300.0,
    ) -> Member:
        """Make a member of `group`; it joins at `subscribe`.

        Never resets an offset by itself: for a partition without a committed offset, the listener
        must `seek` in `on_assigned`, else it reads from the first record.

        Args:
            max_pause_s: How long the member may go without `fetch` before the group takes its
                partitions away. Paused partitions with `fetch` going on count as alive.
        """

    @abstractmethod
    async def members(self, group: str) -> list[str]:
        """Return who is in a group now, for people to read; none if there is no such group."""

    @abstractmethod
    async def forget(self, group: str) -> None:
        """Delete all that a group has committed; one that has never committed is passed over.

        Raises:
            JournalError: It has members.
        """

    @abstractmethod
    async def producer(
        self, transactional_id: str | None = None, *, timeout_s: float = 5.0
    ) -> Producer:
        """Make a producer; with a transactional id it fences older ones with the same id.

        Their open transaction is aborted before this returns, so that its offsets and records
        hold nobody up any more.

        Args:
            timeout_s: Bound of each broker request, and of how long a record may wait.
        """
