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
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

Headers = tuple[tuple[str, bytes], ...]


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


Offsets = Mapping[TopicPartition, int]


class Record(Protocol):
    """One record as it stands in the log; `timestamp` in milliseconds."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class NewRecord(NamedTuple):
    """One record to be appended.

    Attributes:
        partition: None means chosen by the key (murmur2, as every Kafka client does), or in turn
            without a key.
        timestamp: Milliseconds; None means now.
    """

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    partition: int | None = None
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to be created.

    Attributes:
        partitions: None means the broker's default.
        replication: None means the broker's default.
        config: Broker options, for example `{'cleanup.policy': 'compact'}` or
            `{'retention.ms': '3600000'}`.
    """

    name: str
    partitions: int | None = None
    replication: int | None = None
    config: Mapping[str, str] = field(default_factory=dict)


class RebalanceListener(Protocol):
    """Told by a member when its partitions change. Both are awaited before reading goes on."""

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """These are about to leave; what is committed in here still counts."""

    async def on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """These have come; reading starts at the committed offsets, or where `seek` says."""


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
        """The partitions that are ours now."""

    @abstractmethod
    async def subscribe(self, topics: Iterable[str]) -> None:
        """Take part in sharing these topics (all of them; replaces what was asked before)."""

    @abstractmethod
    async def commit(self, offsets: Offsets) -> None:
        """Store the offsets of the *next* record to read, for the group. Bounded in time.

        Before `subscribe` it fixes where the group begins, as long as the group has no members.

        Raises:
            GenerationEnded: The group has rebalanced; these partitions may be someone else's. Or
                it has members, and we are none.
            ConnectionLost: The broker did not answer.
        """

    @abstractmethod
    async def committed(
        self, partitions: Iterable[TopicPartition]
    ) -> Mapping[TopicPartition, int | None]:
        """Return the group's committed offsets; None where nothing is committed."""


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
    async def begin(self) -> None:
        """Begin a transaction."""

    @abstractmethod
    async def send_offsets(
        self, group: str, offsets: Offsets, member: Member | None = None
    ) -> None:
        """Commit a group's offsets as part of the transaction, fenced by `member`'s generation."""

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
    async def partitions(self, topics: Iterable[str]) -> Mapping[str, int | None]:
        """Return how many partitions each topic has; None for a topic that does not exist."""

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
    async def producer(
        self, transactional_id: str | None = None, *, timeout_s: float = 5.0
    ) -> Producer:
        """Make a producer; with a transactional id it fences older ones with the same id.

        Args:
            timeout_s: Bound of each broker request, and of how long a record may wait.
        """
