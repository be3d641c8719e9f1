"""A group over MQTT: shared subscriptions on a connection with a kept session."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence

from service_scaffold import errors
from service_scaffold.transports.base import Delivery, IntakeSpec, Settings
from service_scaffold.transports.mqtt_client import Session
from service_scaffold.transports.mqtt_connection import Connection
from service_scaffold.transports.mqtt_intake import MqttIntake
from service_scaffold.transports.mqtt_messages import delivery_of, is_removal
from service_scaffold.transports.mqtt_packets import Incoming
from service_scaffold.transports.mqtt_topics import (
    MAX_IDENTIFIER,
    claim_topic,
    filters_matching,
    identifier_of,
    session_id,
    share,
)

LOGGER = logging.getLogger(__name__)

_CLAIM_GRACE_S = 0.2
_LEAVE_S = 0.5
_PATIENCE = 2
"""How many times the prefetch a broker may send before we read no more."""


class GroupIntake(MqttIntake):
    """One member of a group: a session that the broker keeps while we are away.

    Each pattern is a shared subscription with its own copies, told apart by subscription
    identifier. Messages are acknowledged in the order in which they came, as MQTT 5 demands.
    A broker that passes over our receive maximum (Mosquitto up to 2.0.12) is held back: we read
    no more of it while twice the prefetch is unsettled.
    """

    def __init__(self, settings: Settings, spec: IntakeSpec) -> None:
        assert spec.group is not None
        self._settings = settings
        self._group = spec.group
        self._unsettled: deque[Incoming] = deque()
        self._prefetch = spec.prefetch
        self._stale: set[int] = set()
        self._taken_over = False
        self.unclaimed = 0
        # The same over all reconnects of one listener, different from every other process.
        self.token: bytes = spec.keep.setdefault('mqtt_token', os.urandom(16))
        client_id = session_id(settings.name, settings.instance, spec.group, spec.exchange)
        self.claim_topic = claim_topic(settings.name, client_id)
        session = Session(
            client_id=client_id,
            kept=True,
            expiry_s=settings.session_expiry_s,
            receive_maximum=spec.prefetch,
        )
        super().__init__(Connection(settings, session, self._offer, self._lost))

    async def open(self) -> None:
        """Connect; what the broker has kept may come from now on, and waits for `fetch`."""
        await self.connection.open()
        if not self.connection.terms.identifiers:
            LOGGER.warning(
                '%s has no subscription identifiers: a message that several patterns of group %s'
                ' match is handled once for each copy',
                self.connection,
                self._group,
            )

    def claimed(self, token: bytes) -> None:
        """Take note of a claim to our session; another process's ends us for good.

        Not every broker tells it to the one that loses the session (Mosquitto 2.0.11 does not),
        and reconnecting would take it back, and so on.
        """
        if token != self.token:
            self._taken_over = True
            self.connection.lose(self.connection.taken_over())

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        try:
            return await super().fetch(limit)
        except errors.SessionTakenOver:
            raise
        except errors.IntakeLost:
            await asyncio.sleep(_CLAIM_GRACE_S)  # the claim may come after the end
            self._check()
            raise

    def alive(self, delivery: Delivery) -> bool:
        return self.connection.lost is None

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        if self.connection.lost is not None:
            return
        for delivery in deliveries:
            delivery.raw.copies -= 1
        self._acknowledge()

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Deliver again, on this connection; while pausing or closing, on the next one."""
        if deliveries and not self._paused and self.connection.lost is None:
            self._ready.extendleft(reversed(deliveries))
            self._wake.set()

    async def close(self, *, forget: bool = False) -> None:
        if self.closed:
            return
        self.closed = True
        try:
            if forget and self.connection.lost is None:
                await self._leave()
        finally:
            await self.connection.close(end_session=forget)
            self.ended()

    async def _leave(self) -> None:
        filters = [self._spell(text) for text in self._filters.bindings]
        try:
            async with asyncio.timeout(_LEAVE_S):
                await self.connection.unsubscribe(filters)
        except (TimeoutError, errors.EventError) as error:
            LOGGER.debug('Leaving group %s at %s: %r', self._group, self.connection, error)

    def _offer(self, incoming: Incoming) -> None:
        if incoming.qos:
            self._unsettled.append(incoming)
            if len(self._unsettled) >= _PATIENCE * self._prefetch:
                self.connection.hold()
        if not self._paused:
            self._arrived.append(incoming)
            self._wake.set()

    def _lost(self, reason: Exception) -> None:
        self._arrived.clear()
        self._ready.clear()
        self._unsettled.clear()
        self.ended()

    def _acknowledge(self) -> None:
        while self._unsettled and not self._unsettled[0].copies:
            self.connection.ack(self._unsettled.popleft())
        if len(self._unsettled) < self._prefetch:
            self.connection.go_on()

    def _spell(self, text: str) -> str:
        return share(self._group, text)

    def _numbers(self, text: str) -> Iterator[int]:
        number = identifier_of(text)
        while True:
            yield number
            number = number % MAX_IDENTIFIER + 1

    def _check(self) -> None:
        lost = self.connection.lost
        if self._taken_over or isinstance(lost, errors.SessionTakenOver):
            raise self.connection.taken_over()
        if lost is not None or self.closed:
            raise errors.IntakeLost(str(lost or f'The member of {self._group} is closed'))

    def _deliveries(self, incoming: Incoming) -> list[Delivery]:
        delivery = delivery_of(incoming)
        wanted = () if is_removal(incoming) else self._filters.matching(delivery)
        found: list[Delivery] = []
        known = True
        for number in incoming.identifiers:
            text = self._filters.text(number)
            known = known and text is not None
            mine = self._filters.bindings.get(text or '', ())
            found += [delivery_of(incoming, binding) for binding in mine if binding in wanted]
        if not found and wanted and not (incoming.identifiers and known):
            found = [delivery]  # of a pattern that an older version had: to whom it concerns now
        if not known:
            self._unsubscribe_stale(incoming)
        incoming.copies = len(found)
        if not found:
            self.unclaimed += 1
            self._acknowledge()
        return found

    def _unsubscribe_stale(self, incoming: Incoming) -> None:
        """End a subscription of the kept session that no binding of ours has made.

        Only its identifier is known, which is made from the filter: so try what could match.
        """
        stale = {n for n in incoming.identifiers if self._filters.text(n) is None} - self._stale
        if not stale:
            return
        self._stale |= stale
        for text in filters_matching(incoming.topic):
            if text not in self._filters.bindings and identifier_of(text) in stale:
                self.connection.unsubscribe_soon(self._spell(text))
                LOGGER.warning(
                    'Group %s: the kept session still had the subscription %s, which this version'
                    ' does not make; it is ended',
                    self._group,
                    self._spell(text),
                )
