"""What a memory bus has still to do: for tests that wait until all is done."""

from __future__ import annotations

import asyncio
from typing import Protocol

from service_scaffold.transports.memory_routing import Routing


class Consumer(Protocol):
    """A consumer that may hold unfinished messages; `str()` names it."""

    @property
    def unfinished(self) -> int:
        """How many messages wait in it or are not settled."""


class Worklist:
    """Queues and consumers that hold messages nobody has settled yet."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._consumers: dict[Consumer, None] = {}
        self._joining: list[asyncio.Future[None]] = []

    @property
    def consumers(self) -> tuple[Consumer, ...]:
        """Every consumer that has not ended."""
        return tuple(self._consumers)

    def enter(self, consumer: Consumer) -> None:
        """Note a new consumer."""
        self._consumers[consumer] = None

    def leave(self, consumer: Consumer) -> None:
        """Forget a consumer that has ended."""
        self._consumers.pop(consumer, None)
        self.progressed()

    def progressed(self) -> None:
        """Something was finished: let those look who wait for the end of it all."""
        joining, self._joining = self._joining, []
        for waiter in joining:
            if not waiter.done() and not waiter.get_loop().is_closed():
                waiter.set_result(None)

    def left(self) -> dict[str, int]:
        """Return how many messages are unfinished, by queue and consumer, dead letters aside."""
        counts = {
            f'queue {name}': len(queue)
            for name, queue in self._routing.queues.items()
            if name not in self._routing.stores
        }
        for consumer in self._consumers:
            counts[str(consumer)] = counts.get(str(consumer), 0) + consumer.unfinished
        return {name: count for name, count in counts.items() if count}

    async def join(self, timeout_s: float) -> None:
        """Wait until nothing is unfinished.

        Raises:
            TimeoutError: Something is left after `timeout_s`; the message names it.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self.left():
                    waiter = asyncio.get_running_loop().create_future()
                    self._joining.append(waiter)
                    await waiter
        except TimeoutError:
            left = ', '.join(f'{count} in {name}' for name, count in self.left().items())
            raise TimeoutError(f'Not finished within {timeout_s:g} s: {left}') from None
