"""One exchange of the memory bus: who takes what, and the log of all that was published."""

from __future__ import annotations

from typing import Protocol

from service_scaffold.journal.memory_log import Topic
from service_scaffold.journal.partitioner import partition_of
from service_scaffold.message import Message
from service_scaffold.transports.base import Binding
from service_scaffold.transports.memory_records import EventRecord
from service_scaffold.transports.patterns import Matcher


class Sink(Protocol):
    """Takes messages: a queue or live views."""

    def put(self, message: Message) -> None:
        """Take one message."""

    def __hash__(self) -> int: ...


class MemoryExchange:
    """Routes messages to queues and live views, and keeps them in the topic of its name.

    Attributes:
        name: Name of the exchange and of the topic.
        type: `topic`, `direct` or `fanout`; None until somebody declares it (a topic that was
            created through a journal).
        topic: The log.
        bound: Number of bindings.
    """

    def __init__(self, name: str, topic: Topic) -> None:
        self.name = name
        self.type: str | None = None
        self.topic = topic
        self.bound = 0
        self._matcher: Matcher[Sink] = Matcher()

    def add(self, binding: Binding, sink: Sink) -> None:
        """Let `sink` take what `binding` wants."""
        self._matcher.add(binding.pattern, sink, binding.exchange_type)
        self.bound += 1

    def remove(self, binding: Binding, sink: Sink) -> None:
        """Undo `add`."""
        self._matcher.remove(binding.pattern, sink, binding.exchange_type)
        self.bound -= 1

    def match(self, routing: str) -> tuple[Sink, ...]:
        """Return those who take a message with this routing key."""
        return self._matcher.match(routing)

    def store(self, message: Message) -> None:
        """Append a published message to the log."""
        partitions = self.topic.partitions
        number = partition_of(message.key, len(partitions))
        partition = partitions[number]
        partition.append(EventRecord(self.name, number, partition.end, message), len(message.body))
