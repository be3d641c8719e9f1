"""The live views of one listener on the memory bus."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

from service_scaffold.journal.memory_network import Connection
from service_scaffold.message import Message
from service_scaffold.transports.base import Binding, Delivery, Settings
from service_scaffold.transports.memory_intake import MemoryIntake
from service_scaffold.transports.memory_records import deliver
from service_scaffold.transports.memory_routing import Routing
from service_scaffold.transports.memory_worklist import Worklist

LOGGER = logging.getLogger(__name__)

LIVE_LIMIT = 10_000
"""How many messages wait for a listener's live views together before the oldest is dropped."""


class LiveIntake(MemoryIntake):
    """All live views of one listener: at most once, the oldest is dropped when it lags behind.

    Settling only counts what is being handled, for `MemoryBus.join`.
    """

    def __init__(
        self, routing: Routing, worklist: Worklist, connection: Connection, settings: Settings
    ) -> None:
        super().__init__(routing, worklist, connection, settings)
        self._buffer: deque[Message] = deque(maxlen=LIVE_LIMIT)
        self._handled = 0
        self._dropped = 0

    @property
    def unfinished(self) -> int:
        return len(self._buffer) + self._handled

    def __str__(self) -> str:
        return f'live views at {self._connection}'

    def put(self, message: Message) -> None:
        """Take a message; the oldest makes room for it."""
        if len(self._buffer) == LIVE_LIMIT:
            self._drop()
        self._buffer.append(message)
        if self._waiter is not None:
            self.wake()

    async def unbind(self, bindings: Sequence[Binding]) -> None:
        await self._cross()
        for binding in bindings:
            if binding in self.bindings:
                self.bindings.discard(binding)
                self._routing.unbind(binding, self)

    def lag(self) -> int:
        return len(self._buffer)

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        self._handled = max(0, self._handled - len(deliveries))
        if not self._handled:
            self._worklist.progressed()

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        self.settle(deliveries)

    async def pause(self) -> None:
        await super().pause()
        self._unbind_all()

    def _bind(self, binding: Binding) -> None:
        if binding not in self.bindings:
            self._routing.bind(binding, self)

    def _take(self, limit: int) -> Sequence[Delivery]:
        popleft = self._buffer.popleft
        taken = [deliver(popleft()) for _ in range(min(limit, len(self._buffer)))]
        self._handled += len(taken)
        return taken

    def _release(self) -> None:
        self._unbind_all()
        self._handled = 0

    def _unbind_all(self) -> None:
        for binding in self.bindings:
            self._routing.unbind(binding, self)
        self.bindings.clear()
        self._buffer.clear()
        self._worklist.progressed()

    def _drop(self) -> None:
        self._dropped += 1
        if self._dropped & (self._dropped - 1) == 0:  # 1, 2, 4, 8, …: said, but not repeated
            LOGGER.warning(
                '%s: live views lag behind, %d messages dropped', self._connection, self._dropped
            )
