"""Records, in the log and on their way to it, and the topics that they are in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

Headers = tuple[tuple[str, bytes], ...]


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
