"""What the options say about streams."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import Any, Literal

from service_scaffold.backoff import Backoff
from service_scaffold.journal.partitioner import Partitioner, partition_of
from service_scaffold.streams.topic import Guarantee

CHECKPOINT_S = 2.8
EXACTLY_ONCE_CHECKPOINT_S = 0.2


@dataclass(frozen=True)
class StreamSettings:
    """How the streams of one application work.

    Attributes:
        id: Consumer group, and prefix of everything that is the application's own.
        guarantee: `at_most_once`, `at_least_once` or `exactly_once`.
        checkpoint_s: Seconds between checkpoints; None means 2.8, with exactly-once 0.2.
        checkpoint_every: A checkpoint comes early when so many records were fetched since the last.
        topic_partitions: Partitions of topics that the worker makes; None: the broker's default.
        topic_replicas: Copies of each; None: the broker's default.
        may_declare: Whether topics are made at all.
        key_serializer, value_serializer: Of topics that name none.
        buffer: How many records of a partition may wait for an agent.
        fetch_limit: How many records one fetch brings at most.
        record_bytes: How large a record may be that an agent writes or sends.
        publish_on_commit: Under at-least-once, send nothing before the checkpoint.
        offset_reset: Where a group without commits begins.
        on_offset_lost: What to do when committed records are no longer in the log.
        max_pause_s: How long a worker may be silent before its partitions are given to others.
        recovery_delay_s: Pause before the recovery of tables.
        backoff: Pauses before connecting again.
        stalled_s: Commits that stand still for so long, with records waiting, are warned of.
        stuck_s: After so long the application stops.
        processing_s: An event in hand for so long is warned of.
        blocking_s: A blocked event loop is warned of after so long; None: it is not.
        store: URL of the stores: `memory://`, `sqlite://`, `rocksdb://`.
        directory: Where stores lie.
        store_kept_s: How long that of a partition stays that has gone to another worker.
        cleanup_s: Seconds between looks for stores that are not used any more.
        standbys: How many other workers keep a copy of each table partition.
        ack_exceptions: Whether an event that its agent fails with may end in the dead letters; no:
            the application stops at it.
        drain_s: How long a rebalance, or the end, waits for events in hand.
        reply_to: Topic of answers; None makes one per worker.
        reply_prefix: What the name of that one begins with.
        reply_expires_s: How long `ask` waits for an answer.
        reply_create: Whether the topic of `reply_to` is made when it is missing.
        url: Where other workers reach this one; None: where its HTTP server listens.
        host: Its name for them, with the port that it listens on.
        look_s: Seconds between looks for input topics that do not exist yet.
        kept_s: Seconds between looks whether all topics still exist, where none is missing.
        registry: Whether workers make themselves known to each other.
        elect: Whether the workers have a leader, also when nothing declared asks for one.
        may_elect: Whether they may have one at all.
        partitioner: Chooses the partition of a record, and so of what tables have, by its key.
        timezone: Of crontabs that name none; None is UTC.
    """

    id: str
    guarantee: Guarantee = 'at_least_once'
    checkpoint_s: float | None = None
    checkpoint_every: int | None = None
    topic_partitions: int | None = None
    topic_replicas: int | None = None
    may_declare: bool = True
    key_serializer: Any = None
    value_serializer: Any = None
    buffer: int = 4096
    fetch_limit: int = 2_000
    record_bytes: int = 1_000_000
    publish_on_commit: bool = False
    offset_reset: Literal['earliest', 'latest'] = 'earliest'
    on_offset_lost: Literal['fail', 'earliest', 'latest'] = 'fail'
    max_pause_s: float = 300.0
    recovery_delay_s: float = 0.0
    backoff: Backoff = field(default_factory=Backoff)
    stalled_s: float = 300.0
    stuck_s: float = 600.0
    processing_s: float = 300.0
    blocking_s: float | None = 10.0
    store: str = 'memory://'
    directory: Path = Path('data')
    store_kept_s: float = 600.0
    cleanup_s: float = 30.0
    standbys: int = 1
    ack_exceptions: bool = True
    drain_s: float = 5.0
    reply_to: str | None = None
    reply_prefix: str | None = None
    reply_expires_s: float = 120.0
    reply_create: bool = False
    url: str | None = None
    host: str | None = None
    look_s: float = 1.0
    kept_s: float = 5.0
    registry: bool = True
    elect: bool = False
    may_elect: bool = True
    partitioner: Partitioner = partition_of
    timezone: str | tzinfo | None = None

    @property
    def interval_s(self) -> float:
        """Seconds between checkpoints."""
        if self.checkpoint_s is not None:
            return self.checkpoint_s
        exactly = self.guarantee == 'exactly_once'
        return EXACTLY_ONCE_CHECKPOINT_S if exactly else CHECKPOINT_S
