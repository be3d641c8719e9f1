"""Live views over MQTT: plain subscriptions on the transport's own connection."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Iterable, Sequence

from service_scaffold import errors
from service_scaffold.transports.base import Delivery
from service_scaffold.transports.mqtt_connection import Connection
from service_scaffold.transports.mqtt_intake import MqttIntake
from service_scaffold.transports.mqtt_messages import delivery_of, is_removal
from service_scaffold.transports.mqtt_packets import Incoming
from service_scaffold.transports.mqtt_topics import filter_of, routing_of
from service_scaffold.transports.patterns import Matcher

LOGGER = logging.getLogger(__name__)

LIVE_LIMIT = 100_000
"""How many messages wait for the live views' listener before the oldest is dropped."""


class LiveIntake(MqttIntake):
    """All live views of a listener, over the transport's own connection.

    A broker delivers one copy for each filter that matches, or one with the identifiers of all.
    The copy for the filter that was subscribed to first is delivered, the others are not.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._ready = deque(maxlen=LIVE_LIMIT)
        self._counter = itertools.count(1)
        self._matchers: dict[str, Matcher[int]] = {}
        self._ranks: dict[str, tuple[str, int]] = {}
        self.dropped = 0

    def offer(self, incoming: Incoming) -> None:
        """Take a message, already acknowledged, if it is a copy that counts."""
        if self.closed or self._paused:
            return
        found = self._deliveries(incoming)
        surplus = len(self._ready) + len(found) - LIVE_LIMIT
        if surplus > 0:
            if not self.dropped:
                LOGGER.warning('Live views at %s: the listener is too slow', self.connection)
            self.dropped += surplus
        if found:
            self._ready.extend(found)
            self._wake.set()

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Do nothing: live views are acknowledged on arrival."""

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Do nothing: live views are at most once."""

    async def close(self, *, forget: bool = False) -> None:
        if self.closed:
            return
        self.closed = True
        self.ended()
        if self.connection.lost is None:
            try:
                async with asyncio.timeout(1.0):
                    await self.connection.unsubscribe(list(self._filters.bindings))
            except (TimeoutError, errors.EventError) as error:
                LOGGER.debug('Unsubscribing at %s failed: %r', self.connection, error)

    def _granted(self, spelled: str) -> None:
        bindings = self._filters.bindings.get(spelled)
        if bindings:
            pattern, number = filter_of(bindings[0]).pattern, self._filters.identifiers[spelled]
            self._ranks[spelled] = (pattern, number)
            self._matchers.setdefault(bindings[0].exchange, Matcher()).add(pattern, number)

    def _dropped(self, text: str) -> None:
        if text in self._ranks:
            pattern, number = self._ranks.pop(text)
            self._matchers[text.partition('/')[0]].remove(pattern, number)

    def _spell(self, text: str) -> str:
        return text

    def _numbers(self, text: str) -> Iterable[int]:
        return self._counter  # fresh connection, fresh numbers; never one twice

    def _check(self) -> None:
        self.connection.check()
        if self.closed:
            raise errors.IntakeLost(f'The live views at {self.connection} are closed')

    def _deliveries(self, incoming: Incoming) -> list[Delivery]:
        if is_removal(incoming):
            return []
        delivery = delivery_of(incoming)
        if not incoming.identifiers:
            return [delivery]
        if incoming.retained:  # sent for one new filter: others have had it
            texts = {self._filters.text(number) for number in incoming.identifiers}
            wanted = self._filters.matching(delivery)
            return [
                delivery_of(incoming, binding)
                for text in texts
                for binding in self._filters.bindings.get(text or '', ())
                if binding in wanted
            ]
        exchange, routing = routing_of(incoming.topic)
        matcher = self._matchers.get(exchange)
        first = matcher.match(routing)[:1] if matcher is not None else ()
        return [delivery] if first and first[0] in incoming.identifiers else []
