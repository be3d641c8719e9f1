"""Sending to whatever takes values, by object or by name."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from service_scaffold.journal.base import NewRecord
from service_scaffold.streams.agent import Agent
from service_scaffold.streams.signals import Signal
from service_scaffold.streams.topic import RecordMetadata, Topic


class Sending(ABC):
    """Sends what belongs to no agent."""

    on_produce_message: Signal
    topics: dict[str, Topic]

    @abstractmethod
    def topic(self, topic: str) -> Topic:
        """Return the topic of a name."""

    @abstractmethod
    def prefixed(self, name: str) -> str:
        """Return a name of the application's own."""

    @abstractmethod
    async def append(self, record: NewRecord) -> RecordMetadata:
        """Append a record that belongs to no event."""

    async def send(
        self,
        channel: Topic | Agent | str,
        key: Any = None,
        value: Any = None,
        *,
        partition: int | None = None,
        timestamp: float | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        key_serializer: Any = None,
        value_serializer: Any = None,
        callback: Callable[[RecordMetadata | None], Any] | None = None,
    ) -> RecordMetadata | None:
        """Send a value to a topic, an agent, or the topic of that name; see `Topic.send`.

        Args:
            key_serializer, value_serializer: Instead of the topic's.
            callback: Called with what `Topic.send` returns, sync or async.
        """
        target = channel.topic if isinstance(channel, Agent) else channel
        if isinstance(target, str):
            target = self.topic(target)
        if key_serializer or value_serializer:
            target = Topic(
                str(target),
                self,
                key_serializer=key_serializer,
                value_serializer=value_serializer,
            )
        sent: RecordMetadata | None = await target.send(
            key=key, value=value, partition=partition, timestamp=timestamp, headers=headers
        )
        if callback is not None and inspect.isawaitable(answer := callback(sent)):
            await answer
        return sent
