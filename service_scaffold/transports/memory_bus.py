"""The memory bus: what a message broker would be, as one object in the process.

Clients come to it through `MemoryTransport`; tests hold it in their hands: they break it, look
into it, and wait for it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping

from service_scaffold.journal.memory_broker import MemoryBroker
from service_scaffold.message import Message
from service_scaffold.transports.memory_intake import MemoryIntake
from service_scaffold.transports.memory_presence import PresenceBoard
from service_scaffold.transports.memory_recorder import Recorder, Where
from service_scaffold.transports.memory_routing import Routing
from service_scaffold.transports.memory_state import StateStore
from service_scaffold.transports.memory_worklist import Worklist


class Space:
    """What is kept under one `Settings.namespace`.

    Attributes:
        state: Latest values by key.
        presence: Who is there.
    """

    def __init__(self) -> None:
        self.state = StateStore()
        self.presence = PresenceBoard()


class MemoryBus:
    """Everything that outlives a connection, the faults, and the view of tests.

    Attributes:
        broker: Topics, clock and network, shared with the journals of the same URL.
        routing: Exchanges and queues.
        spaces: Latest values and who is there, by namespace.
        replies: Where answers go.
        worklist: What is not finished.
        recorder: What was published, while `recording` is on.
    """

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker
        self.recorder = Recorder()
        self.routing = Routing(broker, self.recorder)
        self.worklist = Worklist(self.routing)
        self.spaces: dict[str, Space] = defaultdict(Space)
        self.replies = ReplyBoxes()

    def __str__(self) -> str:
        return str(self.broker)

    def down(self) -> None:
        """Lose all connections and refuse new ones until `up`."""
        self.broker.network.down()

    def up(self) -> None:
        """Answer again. Connections from before a silence are lost, as by missed heartbeats."""
        self.broker.network.up()

    def half_open(self) -> None:
        """Fall silent until `up`: connects and publishes hang, nothing is delivered or told."""
        self.broker.network.half_open()

    def drop_connections(self, where: Callable[[str], bool] = lambda who: True) -> None:
        """Lose the connections whose name (`role service@instance`) satisfies `where`."""
        self.broker.network.drop_connections(where)

    def slow(self, seconds: float) -> None:
        """Let each publish and each delivery take `seconds` of the clock; 0 ends it."""
        self.broker.network.slow(seconds)

    def fail_next_publish(self, n: int = 1) -> None:
        """Refuse the next `n` messages, dead letters included; the connection stays."""
        self.broker.network.fail_next_publish(n)

    def refuse(self, exchange: str) -> None:
        """Refuse every message to this exchange (`plant.dlq`: its dead letters) until `accept`."""
        self.routing.refusing.add(exchange)

    def accept(self, exchange: str) -> None:
        """Undo `refuse`."""
        self.routing.refusing.discard(exchange)

    def delete_exchange(self, name: str) -> None:
        """Delete an exchange: its type, its bindings, its log. Its consumers end; queues stay."""
        self.routing.delete(name)
        for consumer in self.worklist.consumers:
            if isinstance(consumer, MemoryIntake) and consumer.uses(name):
                consumer.end(f'Exchange {name!r} on {self} was deleted')

    def delete_group(self, group: str, exchange: str) -> None:
        """Delete a group's queue with what it holds, as an operator would. Its members end."""
        queue = self.routing.delete_queue(f'{group}@{exchange}')
        for member in [] if queue is None else list(queue.members):
            if isinstance(member, MemoryIntake):
                member.end(f'The queue {group}@{exchange} on {self} was deleted')

    def dead_letters(self, exchange: str) -> list[Message]:
        """Return the dead letters of an exchange, oldest first."""
        store = self.routing.stores.get(f'{exchange}.dlq')
        return [] if store is None else store.messages()

    def purge_dead_letters(self, exchange: str) -> int:
        """Drop the dead letters of an exchange; return how many there were."""
        store = self.routing.stores.get(f'{exchange}.dlq')
        return 0 if store is None else store.purge()

    @property
    def recording(self) -> bool:
        """Whether published messages (the last 10 000) are remembered; off unless switched on."""
        return self.recorder.on

    @recording.setter
    def recording(self, on: bool) -> None:
        self.recorder.on = on

    def published(self, exchange: str | None = None, pattern: str = '#') -> list[Message]:
        """Return what was published while `recording`, oldest first, answers aside.

        Args:
            exchange: None means any.
            pattern: Of the routing, as in a topic subscription.
        """
        return self.recorder.published(exchange, pattern)

    async def expect(
        self,
        exchange: str | None = None,
        pattern: str = '#',
        timeout_s: float = 5.0,
        where: Where | None = None,
    ) -> Message:
        """Return the oldest matching message that no earlier `expect` has returned.

        What was published before the call counts, so it does not matter who is first; each
        message is returned once. Needs `recording`.

        Raises:
            TimeoutError: None came within `timeout_s` seconds of real time.
        """
        if not self.recording:
            raise RuntimeError('Nothing is remembered; set `recording = True` on the bus first')
        return await self.recorder.expect(exchange, pattern, timeout_s, where)

    async def join(self, timeout_s: float = 5.0) -> None:
        """Wait until all queues are empty and every delivery is settled.

        Dead letters may stay. A queue whose group has no member keeps its messages, and `join`
        waits for it.

        Raises:
            TimeoutError: Something is left after `timeout_s` seconds; the message names it.
        """
        await self.worklist.join(timeout_s)

    async def publish(
        self,
        exchange: str,
        routing: str,
        body: bytes,
        *,
        exchange_type: str = 'topic',
        key: str | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        reply_to: str | None = None,
        correlation_id: str | None = None,
    ) -> None:
        """Publish raw bytes as some foreign client would; no fault touches it.

        Args:
            reply_to: From `replies.open(on_reply)`, to make a request of it.
        """
        found = self.routing.declare(exchange, exchange_type)
        message = Message(
            exchange,
            routing,
            body,
            key=key,
            content_type=content_type,
            headers=dict(headers or {}),
            reply_to=reply_to,
            correlation_id=correlation_id,
            timestamp=self.broker.clock.time(),
            exchange_type=exchange_type,
        )
        sinks = found.match(routing)
        await self.routing.room(sinks)
        self.routing.route(found, message, sinks)
        self.routing.published((exchange,))
        await asyncio.sleep(0)


class ReplyBoxes:
    """Addresses for answers, each of one connection."""

    def __init__(self) -> None:
        self._boxes: dict[str, Callable[[Message], None]] = {}
        self._numbers = itertools.count(1)

    def open(self, on_reply: Callable[[Message], None]) -> str:
        """Return an address at which answers reach `on_reply`."""
        address = f'replies.{next(self._numbers)}'
        self._boxes[address] = on_reply
        return address

    def close(self, address: str) -> None:
        """Drop answers to this address from now on."""
        self._boxes.pop(address, None)

    def send(self, address: str, answer: Message) -> bool:
        """Send an answer on its way; False if nobody waits at the address any more."""
        on_reply = self._boxes.get(address)
        if on_reply is None:
            return False
        asyncio.get_running_loop().call_soon(on_reply, answer)
        return True
