"""What makes the declared things work, as they see it."""

from __future__ import annotations

from typing import Protocol

from service_scaffold.journal.base import NewRecord
from service_scaffold.streams.topic import RecordMetadata


class Runtime(Protocol):
    """A worker."""

    async def append(self, record: NewRecord) -> RecordMetadata: ...

    def owns(self, topic: str, partition: int) -> bool:
        """Return whether a partition is ours, and worked on."""
