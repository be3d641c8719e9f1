"""One record of a topic on its way through an agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

OWN_KEY: Any = type('OwnKey', (), {'__repr__': lambda self: 'OWN_KEY'})()
"""Stands for the key that an event has."""


class Sends(Protocol):
    """What takes values: a topic, or something like one."""

    async def send(
        self,
        *,
        key: Any = None,
        value: Any = None,
        partition: int | None = None,
        timestamp: float | None = None,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> Any: ...

    async def forward(self, event: Event, key: Any = OWN_KEY) -> None: ...


class Acks(Protocol):
    """Whoever finishes events."""

    async def ack(self, event: Event) -> None: ...

    def named(self, name: str) -> Sends: ...


NO_HEADERS: Mapping[str, bytes] = {}


class Event:
    """A decoded record.

    Attributes:
        key: The decoded key, None without one.
        value: The decoded value, None for a tombstone.
        topic: Name of the topic.
        partition: Number of the partition.
        offset: Place in the partition.
        timestamp_ms: Milliseconds since the epoch, as the record says.
        message: The record as it stands in the log.
    """

    __slots__ = ('_lane', 'key', 'message', 'offset', 'partition', 'timestamp_ms', 'topic', 'value')

    def __init__(self, key: Any, value: Any, record: Any, lane: Acks | None = None) -> None:
        self.key = key
        self.value = value
        self.message = record
        self.topic: str = record.topic
        self.partition: int = record.partition
        self.offset: int = record.offset
        self.timestamp_ms: int = record.timestamp
        self._lane = lane

    def __repr__(self) -> str:
        return f'<Event {self.dedup_id} key={self.key!r} value={self.value!r}>'

    @property
    def timestamp(self) -> float:
        """Epoch seconds."""
        return self.timestamp_ms / 1000

    @property
    def headers(self) -> Mapping[str, bytes]:
        """The record's headers; of a name that stands there twice the last one."""
        headers: Sequence[tuple[str, bytes]] = self.message.headers
        return dict(headers) if headers else NO_HEADERS

    @property
    def dedup_id(self) -> str:
        """The same however often the event is delivered: `topic-partition-offset`."""
        return f'{self.topic}-{self.partition}-{self.offset}'

    async def ack(self) -> None:
        """Finish with this event; only needed under `stream.noack()`."""
        if self._lane is not None:
            await self._lane.ack(self)

    async def send(
        self, channel: Sends | str, key: Any = None, value: Any = None, **options: Any
    ) -> None:
        """Send to `channel` as part of handling this event; see `Topic.send`.

        Args:
            channel: A topic, its name, a channel or an agent.

        Raises:
            TypeError: It is a name, and the event is no agent's: it is not known whose topic.
        """
        await self._target(channel).send(key=key, value=value, **options)

    async def forward(self, channel: Sends | str, key: Any = OWN_KEY) -> None:
        """Send the record's own bytes on, with its key (or another), headers and timestamp.

        Args:
            channel: As for `send`.
            key: Another one; None for none.
        """
        await self._target(channel).forward(self, key=key)

    def _target(self, channel: Sends | str) -> Sends:
        if not isinstance(channel, str):
            return channel
        if self._lane is None:
            raise TypeError(f'a topic is needed here, not its name: app.topic({channel!r})')
        return self._lane.named(channel)
