"""What MQTT's live views and groups have in common: filters, and arrivals to be fetched."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from service_scaffold import errors
from service_scaffold.transports.base import Binding, Delivery, Intake
from service_scaffold.transports.mqtt_connection import Connection
from service_scaffold.transports.mqtt_filters import Filters
from service_scaffold.transports.mqtt_packets import Incoming
from service_scaffold.transports.mqtt_topics import filter_of


class MqttIntake(Intake):
    """What live views and groups have in common: filters, and arrivals that wait to be fetched."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._filters = Filters()
        self._arrived: deque[Incoming] = deque()
        self._ready: deque[Delivery] = deque()
        self._wake = asyncio.Event()
        self._paused = False
        self.closed = False

    @abstractmethod
    def _spell(self, text: str) -> str:
        """Return a filter as it is subscribed to."""

    @abstractmethod
    def _numbers(self, text: str) -> Iterable[int]:
        """Yield identifiers for a filter, the best one first."""

    @abstractmethod
    def _deliveries(self, incoming: Incoming) -> list[Delivery]:
        """Return what is to be delivered of a packet."""

    @abstractmethod
    def _check(self) -> None:
        """Raise when this consumer has ended."""

    def _granted(self, spelled: str) -> None:
        """Take note that a filter counts from now on."""

    def _dropped(self, text: str) -> None:
        """Take note that a filter counts no longer."""

    def _release(self, text: str, binding: Binding) -> bool:
        idle = self._filters.remove(text, binding)
        if idle:
            self._dropped(text)
        return idle

    async def bind(self, bindings: Sequence[Binding]) -> Mapping[Binding, Exception]:
        self._check()
        refused: dict[Binding, Exception] = {}
        new: dict[str, int | None] = {}
        by_filter: dict[str, list[Binding]] = {}
        for binding in bindings:
            try:
                text = filter_of(binding).text
            except errors.BindingRefused as error:
                refused[binding] = error
                continue
            bound = self._filters.bindings.get(text)
            if bound and binding in bound:
                continue
            self._filters.add(text, binding, self._numbers)
            by_filter.setdefault(text, []).append(binding)
            if not bound:
                new[self._spell(text)] = self._filters.identifiers[text]
        failed = await self._subscribe(new, by_filter)
        for text, unwilling in by_filter.items():
            reason = failed.get(self._spell(text))
            if reason is not None:
                refused |= dict.fromkeys(unwilling, reason)
                for binding in unwilling:
                    self._release(text, binding)
        return refused

    async def _subscribe(
        self, new: Mapping[str, int | None], by_filter: Mapping[str, Sequence[Binding]]
    ) -> Mapping[str, Exception]:
        try:
            return await self.connection.subscribe(new, self._granted)
        except BaseException:
            # Not confirmed, so not bound: the caller will ask again.
            for text, bindings in by_filter.items():
                for binding in bindings:
                    self._release(text, binding)
            raise

    async def unbind(self, bindings: Sequence[Binding]) -> None:
        self._check()
        idle = []
        for binding in bindings:
            text = filter_of(binding).text
            if self._release(text, binding):
                idle.append(self._spell(text))
        await self.connection.unsubscribe(idle)

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        await asyncio.sleep(0)
        while True:
            found = self._take(limit)
            if found:
                return found
            self._check()
            self._wake.clear()
            await self._wake.wait()

    def _take(self, limit: int) -> list[Delivery]:
        if self._paused:
            return []
        while self._arrived and len(self._ready) < limit:
            self._ready.extend(self._deliveries(self._arrived.popleft()))
        return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]

    async def pause(self) -> None:
        self._paused = True
        self._arrived.clear()
        self._ready.clear()

    def ended(self) -> None:
        """Wake up who waits: the connection has ended."""
        self.epoch += 1
        self._wake.set()
