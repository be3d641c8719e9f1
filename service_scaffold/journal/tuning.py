"""How a Kafka client behaves, beyond where the cluster is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from service_scaffold.journal.partitioner import Partitioner, partition_of


@dataclass(frozen=True)
class Tuning:
    """Settings of the consumers and producers of one journal; None is the client's own default.

    Attributes:
        session_s: A member that is not heard of for so long is thrown out of its group.
        heartbeat_s: How often a member says that it lives; 0 means a third of the session, and at
            most once a second.
        rebalance_s: How long the group waits for its members when partitions change hands.
        consumer_request_s: Limit of a consumer's request.
        idle_s: Connections without traffic for so long are closed.
        fetch_bytes: At most so much of a partition comes in one answer.
        instance_id: Makes a static member: a restart within the session moves no partition.
        linger_s: How long a producer waits for more records to send together.
        batch_bytes: How much of a partition goes together.
        request_bytes: The largest record.
        acks: `all`, or 1: only the leader of the partition. Transactions always need all.
        compression: None, `gzip`, `snappy`, `lz4` or `zstd`.
        producer_request_s: Limit of a producer's request, and of how long a record may wait.
        partitioner: Chooses the partition of a record by its key.
    """

    session_s: float = 10.0
    heartbeat_s: float = 0.0
    rebalance_s: float = 15.0
    consumer_request_s: float | None = None
    idle_s: float | None = None
    fetch_bytes: int | None = None
    instance_id: str | None = None
    linger_s: float = 0.0
    batch_bytes: int = 64 * 1024
    request_bytes: int = 64 * 1024 * 1024
    acks: Literal['all', 1] = 'all'
    compression: str | None = None
    producer_request_s: float | None = None
    partitioner: Partitioner = partition_of

    @property
    def beat_s(self) -> float:
        """Seconds between heartbeats."""
        return self.heartbeat_s or min(1.0, self.session_s / 3)

    def for_consumers(self) -> dict[str, Any]:
        """Return keyword arguments of a consumer."""
        return _given(
            session_timeout_ms=_ms(self.session_s),
            heartbeat_interval_ms=_ms(self.beat_s),
            rebalance_timeout_ms=_ms(self.rebalance_s),
            request_timeout_ms=_ms(self.consumer_request_s),
            connections_max_idle_ms=_ms(self.idle_s),
            max_partition_fetch_bytes=self.fetch_bytes,
            group_instance_id=self.instance_id,
        )

    def for_producers(self, *, transactional: bool) -> dict[str, Any]:
        """Return keyword arguments of a producer."""
        return _given(
            acks='all' if transactional else self.acks,
            linger_ms=_ms(self.linger_s),
            max_batch_size=self.batch_bytes,
            max_request_size=self.request_bytes,
            compression_type=self.compression,
        )


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else min(int(seconds * 1000), 2**31 - 1)
