"""Consumers on the memory bus: what all share, and the member of a group."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence

from service_scaffold import errors
from service_scaffold.journal.memory_network import Connection
from service_scaffold.transports.base import Binding, Delivery, Intake, IntakeSpec, Settings
from service_scaffold.transports.memory_queue import MemoryQueue
from service_scaffold.transports.memory_records import MemoryDelivery
from service_scaffold.transports.memory_routing import Routing
from service_scaffold.transports.memory_worklist import Worklist


class MemoryIntake(Intake):
    """What both kinds of consumers share: waiting, and the ways in which it ends.

    Attributes:
        bindings: What was bound here and not refused.
    """

    def __init__(
        self, routing: Routing, worklist: Worklist, connection: Connection, settings: Settings
    ) -> None:
        self.bindings: set[Binding] = set()
        self._routing = routing
        self._worklist = worklist
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
                self._routing.declare(
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
        self._worklist.leave(self)
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
        routing: Routing,
        worklist: Worklist,
        connection: Connection,
        settings: Settings,
        spec: IntakeSpec,
        queue: MemoryQueue,
    ) -> None:
        super().__init__(routing, worklist, connection, settings)
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

    @property
    def eager(self) -> bool:
        """Whether it may take more."""
        return len(self._unsettled) < self._prefetch and not self._paused

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
            self._routing.unbind_queue(self._queue, binding)

    def alive(self, delivery: Delivery) -> bool:
        return id(delivery) in self._unsettled

    def lag(self) -> int:
        return len(self._queue)

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        if self._deaf:
            return
        unsettled = self._unsettled
        for delivery in deliveries:
            unsettled.pop(id(delivery), None)
        if self._waiter is not None and len(self._queue):
            self.wake()
        if not unsettled:
            self._worklist.progressed()

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        if self._deaf:
            return
        self._queue.give_back(self._withdraw(deliveries))
        self.wake()

    async def pause(self) -> None:
        await super().pause()
        self._pass_on()

    def _bind(self, binding: Binding) -> None:
        self._routing.bind_queue(self._queue, binding)

    def _take(self, limit: int) -> Sequence[Delivery]:
        room = self._prefetch - len(self._unsettled)
        if room <= 0 or limit <= 0:
            return ()
        taken = self._queue.take(min(limit, room, self._queue.share()))
        self._unsettled.update(zip(map(id, taken), taken, strict=True))
        return taken

    @property
    def _deaf(self) -> bool:
        """Whether what we say is lost on the way: all that is unsettled comes again then."""
        return self._connection.network.state == 'half_open'

    def _withdraw(self, deliveries: Sequence[Delivery]) -> Iterable[MemoryDelivery]:
        found = [self._unsettled.pop(id(delivery), None) for delivery in deliveries]
        return [delivery for delivery in found if delivery is not None]

    def _release(self) -> None:
        self._queue.members.remove(self)
        unsettled, self._unsettled = self._unsettled, {}
        self._queue.give_back(unsettled.values())
        self._pass_on()

    async def _wait(self) -> None:
        if self.eager:
            self._queue.hungry[self] = None
        try:
            await super()._wait()
        finally:
            self._queue.hungry.pop(self, None)

    def _pass_on(self) -> None:
        self._queue.hungry.pop(self, None)
        if len(self._queue):  # we may have been woken for it
            self._queue.wake()
