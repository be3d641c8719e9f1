"""A group's durable queue in memory: competing members, redelivery to the head, a bound."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from service_scaffold.message import Message
from service_scaffold.transports.base import Binding
from service_scaffold.transports.memory_records import MemoryDelivery, deliver

QUEUE_LIMIT = 100_000
"""How many messages may wait in one queue; a publisher waits for room then."""


class Member(Protocol):
    """One consumer of a queue."""

    @property
    def unsettled(self) -> int:
        """How many deliveries it has not settled."""

    @property
    def eager(self) -> bool:
        """Whether it may take more."""

    def wake(self) -> bool:
        """Tell it that there is something to take; False if it does not listen any more."""


class MemoryQueue:
    """First in, first out; what comes back goes to the head in its old order.

    Attributes:
        name: `group@exchange`, or the name of a dead-letter store.
        bindings: What it takes. They stay when the last member goes.
        members: Its consumers.
        limit: How many messages may wait.
        hungry: Those of them that wait for a message, longest first.
    """

    def __init__(self, name: str, full: set[object], limit: int = QUEUE_LIMIT) -> None:
        self.name = name
        self.bindings: set[Binding] = set()
        self.members: list[Member] = []
        self.hungry: dict[Member, None] = {}
        self.limit = limit
        self._full = full
        self._ready: deque[Message] = deque()
        self._returned: list[tuple[int, Message]] = []
        self._taken = 0
        self._publishers: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._ready) + len(self._returned)

    @property
    def unfinished(self) -> int:
        """How many messages are neither settled nor dropped."""
        return len(self) + sum(member.unsettled for member in self.members)

    def share(self) -> int:
        """Return how many messages one member may take at once, so that each gets some."""
        if len(self.members) == 1:
            return len(self)
        eager = sum(member.eager for member in self.members)
        return -(-len(self) // max(1, eager))

    def put(self, message: Message) -> None:
        """Append a message; whoever puts looks first whether the queue is full."""
        ready = self._ready
        ready.append(message)
        if self.hungry:
            self.wake()
        if len(ready) >= self.limit:
            self._full.add(self)

    def take(self, limit: int) -> list[MemoryDelivery]:
        """Take up to `limit` messages from the head."""
        if self._returned:
            count = min(limit, len(self._returned))
            heads = (heapq.heappop(self._returned) for _ in range(count))
            return [deliver(message, number, True) for number, message in heads]
        ready, number = self._ready, self._taken
        count = min(limit, len(ready))
        self._taken += count
        popleft = ready.popleft
        taken = [deliver(popleft(), n) for n in range(number, number + count)]
        if self._publishers or self in self._full:
            self._make_room()
        return taken

    def give_back(self, deliveries: Iterable[MemoryDelivery]) -> None:
        """Put unsettled deliveries back to the head, for whoever takes next."""
        for delivery in deliveries:
            heapq.heappush(self._returned, (delivery.number, delivery.raw))
            self.wake()

    def wake(self) -> None:
        """Wake the member that has waited longest."""
        while self.hungry:
            member = next(iter(self.hungry))
            del self.hungry[member]
            if member.wake():
                return

    def messages(self) -> list[Message]:
        """Return what waits in the queue, oldest first."""
        return [message for _, message in sorted(self._returned, key=_number)] + list(self._ready)

    def purge(self) -> int:
        """Drop what waits in the queue; return how many messages that were."""
        dropped = len(self)
        self._ready.clear()
        self._returned.clear()
        self._make_room()
        return dropped

    async def room(self) -> None:
        """Wait until something has been taken from a full queue."""
        waiter = asyncio.get_running_loop().create_future()
        self._publishers.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._publishers:
                self._publishers.remove(waiter)

    def _make_room(self) -> None:
        if len(self._ready) >= self.limit:
            return
        self._full.discard(self)
        publishers, self._publishers = self._publishers, []
        for waiter in publishers:
            if not waiter.done() and not waiter.get_loop().is_closed():
                waiter.set_result(None)


def _number(entry: tuple[int, Message]) -> int:
    return entry[0]
