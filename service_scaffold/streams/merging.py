"""Records of several topics on their way to one agent, in the order of their time."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Any


class Merge:
    """Puts the records of one partition of several topics in order.

    Each topic keeps its own order. Of the records that come next, the one with the smallest
    timestamp goes first, and of equal ones that of the topic named first. So a topic without a
    record holds up the others, until it has one or is known to have none.
    """

    def __init__(self, topics: Iterable[str]) -> None:
        self._queues: dict[str, deque[Any]] = {topic: deque() for topic in topics}

    def __bool__(self) -> bool:
        return any(self._queues.values())

    def put(self, topic: str, records: Iterable[Any]) -> None:
        """Take records of a topic, in their order."""
        self._queues[topic].extend(records)

    def waiting(self, topic: str) -> int:
        """How many records of a topic wait for those of others."""
        return len(self._queues[topic])

    @property
    def wanted(self) -> list[str]:
        """The topics that hold up the others."""
        return [topic for topic, queue in self._queues.items() if not queue] if self else []

    def take(self, exhausted: Collection[str] = ()) -> Sequence[Any]:
        """Return the records whose turn it is.

        Args:
            exhausted: Topics that have no more records now.
        """
        taken: list[Any] = []
        while True:
            heads = [queue for queue in self._queues.values() if queue]
            missing = [topic for topic, queue in self._queues.items() if not queue]
            if not heads or any(topic not in exhausted for topic in missing):
                return taken
            taken.append(min(heads, key=_head_time).popleft())


def _head_time(queue: deque[Any]) -> int:
    timestamp: int = queue[0].timestamp
    return timestamp
