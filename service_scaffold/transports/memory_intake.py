"""Consumers on the memory bus: a member of a group, and the live views of one listener."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from service_scaffold import errors
from service_scaffold.journal.memory_network import Connection
from service_scaffold.message import Message
from service_scaffold.transports.base import Binding, Delivery, Intake, IntakeSpec, Settings
from service_scaffold.transports.memory_queue import MemoryQueue
from service_scaffold.transports.memory_records import MemoryDelivery, deliver

if TYPE_CHECKING:
    from service_scaffold.transports.memory_bus import MemoryBus

LOGGER = logging.getLogger(__name__)

LIVE_LIMIT = 10_000
"""How many messages wait for a listener's live views together before the oldest is dropped."""


class MemoryIntake(Intake):
    """What both kinds of consumers share: waiting, and the ways in which it ends.

    Attributes:
        bindings: What was bound here and not refused.
    """

    def __init__(self, bus: MemoryBus, connection: Connection, settings: Settings) -> None:
        self.bindings: set[Binding] = set()
        self._bus = bus
        self._connection = connection
        self._settings = settings
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._ended: str | None = None

    @property
    def ended(self) -> bool:
        """Whether it was closed, or cut off."""
        return self._ended is not None

    @property
    @abstractmethod
    def unfinished(self) -> int:
        """How many messages wait here or are not settled."""

    def uses(self, exchange: str) -> bool:
        """Tell whether it takes messages of an exchange."""
        return any(binding.exchange == exchange for binding in self.bindings)

    @abstractmethod
    def _bind(self, binding: Binding) -> None: ...

    @abstractmethod
    def _take(self, limit: int) -> Sequence[Delivery]: ...

    @abstractmethod
    def _release(self) -> None: ...

    async def bind(self, bindings: Sequence[Binding]) -> Mapping[Binding, Exception]:
        await asyncio.sleep(0)
        await self._cross()
        refused: dict[Binding, Exception] = {}
        for binding in bindings:
            try:
                self._bus.routing.declare(
                    binding.exchange,
                    binding.exchange_type,
                    passive=self._settings.declare == 'passive',
                )
            except errors.BindingRefused as error:
                refused[binding] = error
            else:
                self._bind(binding)
                self.bindings.add(binding)
        return refused

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        await asyncio.sleep(0)
        while True:
            if self._connection.network.faulty:
                await self._cross()
            self._check()
            if not self._paused and (taken := self._take(limit)):
                return taken
            await self._wait()

    async def pause(self) -> None:
        self._paused = True

    async def close(self, *, forget: bool = False) -> None:
        self.end('This consumer was closed')

    def end(self, reason: str) -> None:
        """End, and hand back what was not settled. Idempotent."""
        if self._ended is not None:
            return
        self._ended = reason
        self.epoch += 1
        self._release()
        self._bus.worklist.leave(self)
        self.wake()

    def wake(self) -> bool:
        """Let a waiting `fetch` look again; False if none waits."""
        waiter = self._waiter
        if waiter is None or waiter.done() or waiter.get_loop().is_closed():
            return False
        waiter.set_result(None)
        return True

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def _cross(self) -> None:
        await self._connection.cross()
        self._check()

    def _check(self) -> None:
        self._connection.check()
        if self._ended is not None:
            raise errors.IntakeLost(self._ended)


class GroupIntake(MemoryIntake):
    """One member of a group; holds at most `prefetch` unsettled deliveries."""

    def __init__(
        self,
        bus: MemoryBus,
        connection: Connection,
        settings: Settings,
        spec: IntakeSpec,
        queue: MemoryQueue,
    ) -> None:
        super().__init__(bus, connection, settings)
        self._prefetch = spec.prefetch
        self._queue = queue
        self._unsettled: dict[int, MemoryDelivery] = {}
        queue.members.append(self)

    @property
    def unsettled(self) -> int:
        """How many deliveries are handed out and not settled."""
        return len(self._unsettled)

    @property
    def unfinished(self) -> int:
        return len(self._unsettled)

    def __str__(self) -> str:
        return f'{self._queue.name} at {self._connection}'

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        try:
            return await super().fetch(limit)
        except asyncio.CancelledError:
            self._pass_on()
            raise

    async def unbind(self, bindings: Sequence[Binding]) -> None:
        await self._cross()
        for binding in bindings:
            self.bindings.discard(binding)
            self._bus.routing.unbind_queue(self._queue, binding)

    def alive(self, delivery: Delivery) -> bool:
        return id(delivery) in self._unsettled

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        unsettled = self._unsettled
        for delivery in deliveries:
            unsettled.pop(id(delivery), None)
        if self._waiter is not None and len(self._queue):
            self.wake()
        if not unsettled:
            self._bus.worklist.progressed()

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        self._queue.give_back(self._withdraw(deliveries))
        self.wake()

    async def pause(self) -> None:
        await super().pause()
        self._pass_on()

    def _bind(self, binding: Binding) -> None:
        self._bus.routing.bind_queue(self._queue, binding)

    def _take(self, limit: int) -> Sequence[Delivery]:
        room = self._prefetch - len(self._unsettled)
        if room <= 0 or limit <= 0:
            return ()
        taken = self._queue.take(min(limit, room))
        self._unsettled.update(zip(map(id, taken), taken, strict=True))
        return taken

    def _withdraw(self, deliveries: Sequence[Delivery]) -> Iterable[MemoryDelivery]:
        found = [self._unsettled.pop(id(delivery), None) for delivery in deliveries]
        return [delivery for delivery in found if delivery is not None]

    def _release(self) -> None:
        self._queue.members.remove(self)
        unsettled, self._unsettled = self._unsettled, {}
        self._queue.give_back(unsettled.values())
        self._pass_on()

    async def _wait(self) -> None:
        if len(self._unsettled) < self._prefetch and not self._paused:
            self._queue.hungry[self] = None
        try:
            await super()._wait()
        finally:
            self._queue.hungry.pop(self, None)

    def _pass_on(self) -> None:
        self._queue.hungry.pop(self, None)
        if len(self._queue):  # we may have been woken for it
            self._queue.wake()


class LiveIntake(MemoryIntake):
    """All live views of one listener: at most once, the oldest is dropped when it lags behind.

    Settling only counts what is being handled, for `MemoryBus.join`.
    """

    def __init__(self, bus: MemoryBus, connection: Connection, settings: Settings) -> None:
        super().__init__(bus, connection, settings)
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
                self._bus.routing.unbind(binding, self)

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        self._handled = max(0, self._handled - len(deliveries))
        if not self._handled:
            self._bus.worklist.progressed()

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        self.settle(deliveries)

    async def pause(self) -> None:
        await super().pause()
        self._unbind_all()

    def _bind(self, binding: Binding) -> None:
        if binding not in self.bindings:
            self._bus.routing.bind(binding, self)

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
            self._bus.routing.unbind(binding, self)
        self.bindings.clear()
        self._buffer.clear()
        self._bus.worklist.progressed()

    def _drop(self) -> None:
        self._dropped += 1
        if self._dropped & (self._dropped - 1) == 0:  # 1, 2, 4, 8, …: said, but not repeated
            LOGGER.warning(
                '%s: live views lag behind, %d messages dropped', self._connection, self._dropped
            )
