"""What the options say about streams."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
        topic_partitions: Partitions of topics that the worker makes; None: the broker's default.
        topic_replicas: Copies of each; None: the broker's default.
        may_declare: Whether topics are made at all.
        buffer: How many records of a partition may wait for an agent.
        offset_reset: Where a group without commits begins.
        on_offset_lost: What to do when committed records are no longer in the log.
        max_pause_s: How long a worker may be silent before its partitions are given to others.
        store: URL of the stores: `memory://`, `sqlite://`, `rocksdb://`.
        directory: Where stores lie.
        drain_s: How long a rebalance, or the end, waits for events in hand.
        reply_expires_s: How long `ask` waits for an answer.
    """

    id: str
    guarantee: Guarantee = 'at_least_once'
    checkpoint_s: float | None = None
    topic_partitions: int | None = None
    topic_replicas: int | None = None
    may_declare: bool = True
    buffer: int = 4096
    offset_reset: Literal['earliest', 'latest'] = 'earliest'
    on_offset_lost: Literal['fail', 'earliest', 'latest'] = 'fail'
    max_pause_s: float = 300.0
    store: str = 'memory://'
    directory: Path = Path('data')
    drain_s: float = 5.0
    reply_expires_s: float = 120.0

    @property
    def interval_s(self) -> float:
        """Seconds between checkpoints."""
        if self.checkpoint_s is not None:
            return self.checkpoint_s
        exactly = self.guarantee == 'exactly_once'
        return EXACTLY_ONCE_CHECKPOINT_S if exactly else CHECKPOINT_S
