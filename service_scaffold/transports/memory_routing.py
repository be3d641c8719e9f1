"""Exchanges and queues of the memory bus, and how a message finds its way."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from service_scaffold import errors
from service_scaffold.journal.base import Record, TopicSpec
from service_scaffold.journal.memory_broker import MemoryBroker
from service_scaffold.message import Message
from service_scaffold.transports.base import Binding
from service_scaffold.transports.memory_exchange import MemoryExchange, Sink
from service_scaffold.transports.memory_queue import MemoryQueue
from service_scaffold.transports.memory_recorder import Recorder
from service_scaffold.transports.memory_records import message_of


class Routing:
    """Every exchange and queue; they outlive the clients.

    Attributes:
        queues: Every group's queue and every dead-letter store by name.
        stores: The dead-letter stores among them.
        full: Queues without room: look here before `route`.
        refusing: Exchanges whose publishes a test wants to be refused.
    """

    def __init__(self, broker: MemoryBroker, recorder: Recorder) -> None:
        self.queues: dict[str, MemoryQueue] = {}
        self.stores: dict[str, MemoryQueue] = {}
        self.full: set[object] = set()
        self.refusing: set[str] = set()
        self._broker = broker
        self._recorder = recorder
        self._exchanges: dict[str, MemoryExchange] = {}
        broker.on_append.append(self._appended)
        broker.wait_for_room.append(self._wait_for_room)

    def find(self, name: str) -> MemoryExchange | None:
        """Return the exchange, None if it is missing; every topic is an exchange, too."""
        exchange = self._exchanges.get(name)
        if exchange is None and (topic := self._broker.topics.get(name)) is not None:
            exchange = self._exchanges[name] = MemoryExchange(name, topic)
        return exchange

    def declare(self, name: str, exchange_type: str, *, passive: bool = False) -> MemoryExchange:
        """Return the exchange, made if it is missing.

        Raises:
            BindingRefused: It is of another type; or it is missing, and `passive`.
        """
        exchange = self.find(name)
        if exchange is None:
            if passive:
                raise errors.BindingRefused(
                    f'There is no exchange {name!r} on {self._broker}, and it must not be declared'
                )
            topic = self._broker.topic(TopicSpec(name), declared=False)
            exchange = self._exchanges[name] = MemoryExchange(name, topic)
        if exchange.type is None:
            exchange.type = exchange_type
        elif exchange.type != exchange_type:
            raise errors.BindingRefused(
                f'Exchange {name!r} on {self._broker} is of type {exchange.type!r},'
                f' not {exchange_type!r}'
            )
        return exchange

    def delete(self, name: str) -> None:
        """Delete an exchange with its bindings and its log; queues stay, with what they hold."""
        self._exchanges.pop(name, None)
        self._broker.delete_topic(name)
        for queue in self.queues.values():
            queue.bindings = {b for b in queue.bindings if b.exchange != name}

    def queue(self, name: str) -> MemoryQueue:
        """Return the queue, made if it is missing."""
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = MemoryQueue(name, self.full)
        return queue

    def delete_queue(self, name: str) -> MemoryQueue | None:
        """Delete a queue with its bindings and what it holds; None if it is missing."""
        queue = self.queues.pop(name, None)
        if queue is not None:
            for binding in tuple(queue.bindings):
                self.unbind_queue(queue, binding)
            queue.purge()
        return queue

    def store(self, exchange_name: str) -> tuple[MemoryExchange, MemoryQueue]:
        """Return the dead-letter exchange and store of an exchange, made if they are missing."""
        name = f'{exchange_name}.dlq'
        exchange = self.declare(name, 'topic')
        store = self.stores[name] = self.queue(name)
        self.bind_queue(store, Binding(name, 'topic', '#'))
        return exchange, store

    def bind_queue(self, queue: MemoryQueue, binding: Binding) -> None:
        """Let a queue take messages from now on. Idempotent."""
        if binding not in queue.bindings:
            queue.bindings.add(binding)
            self.bind(binding, queue)

    def unbind_queue(self, queue: MemoryQueue, binding: Binding) -> None:
        """Undo `bind_queue`. Idempotent."""
        if binding in queue.bindings:
            queue.bindings.discard(binding)
            self.unbind(binding, queue)

    def bind(self, binding: Binding, sink: Sink) -> None:
        """Let a sink take messages of a declared exchange from now on."""
        self._exchanges[binding.exchange].add(binding, sink)

    def unbind(self, binding: Binding, sink: Sink) -> None:
        """Undo `bind`; an exchange that was deleted took its bindings along."""
        exchange = self._exchanges.get(binding.exchange)
        if exchange is not None:
            exchange.remove(binding, sink)

    def route(self, exchange: MemoryExchange, message: Message, sinks: Sequence[Sink]) -> None:
        """Put a message into the log and to everyone who takes it."""
        exchange.store(message)
        for sink in sinks:
            sink.put(message)
        if self._recorder.on:
            self._recorder.add(message)

    def published(self, names: Collection[str]) -> None:
        """Tidy the logs and wake the journals' readers, once a batch."""
        now = self._broker.now_ms()
        for name in names:
            if (exchange := self._exchanges.get(name)) is not None:
                exchange.topic.tidy(now)
        self._broker.wake(names)

    @property
    def choosy(self) -> bool:
        """Whether `refuses` has to be asked for each message."""
        return bool(self.refusing) or self._broker.network.refusing

    def refuses(self, message: Message) -> bool:
        """Tell whether a test wants this message to be refused, and count it."""
        return message.exchange in self.refusing or self._broker.network.refuse()

    async def room(self, sinks: Sequence[Sink]) -> None:
        """Wait until none of these queues is full."""
        while full := [s for s in sinks if isinstance(s, MemoryQueue) and s in self.full]:
            await full[0].room()

    def _appended(self, topic: str, records: Sequence[Record]) -> None:
        exchange = self.find(topic)
        if exchange is None or not (exchange.bound or self._recorder.on):
            return
        for record in records:
            message = message_of(record)
            for sink in exchange.match(message.routing):
                sink.put(message)
            if self._recorder.on:
                self._recorder.add(message)

    async def _wait_for_room(self, topics: Collection[str]) -> None:
        if not self.full:
            return
        for queue in list(self.queues.values()):
            if any(binding.exchange in topics for binding in queue.bindings):
                await self.room((queue,))
