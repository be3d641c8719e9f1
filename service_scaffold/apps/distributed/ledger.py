"""What was published and is not yet handled: how an application knows that it is done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from service_scaffold import events
from service_scaffold.apps.distributed.functions import Consumer
from service_scaffold.message import Handler, Message

LOGGER = logging.getLogger(__name__)

QUIET_S = 5.0
"""After so long without a message, what is missing was taken by other instances."""


class Ledger:
    """Follows each message of an application to the consumers that it is for.

    It sees what the application itself publishes, what its consumers publish included. An instance
    that shares the groups may take some of it: then the broker is asked whether anything waits.

    Args:
        listener: Gives the groups' state in the broker.
        consumers: Who there is.
    """

    def __init__(
        self, listener: events.EventListener, consumers: Callable[[], Sequence[Consumer]]
    ) -> None:
        self._listener = listener
        self._consumers = consumers
        self.begin()

    def __len__(self) -> int:
        return len(self._open)

    def begin(self) -> None:
        """Know of nothing yet; at each start, as the last one may belong to another event loop."""
        self._open: dict[str, set[Consumer]] = {}
        self._running = 0
        self._changed = asyncio.Event()

    def publish(self, following: Handler) -> Handler:
        """Note who will receive a message; a middleware."""

        async def note(message: Message) -> object:
            wanted = {
                consumer
                for consumer in self._consumers()
                if consumer.intake and consumer.intake.wants(message.exchange, message.routing)
            }
            if wanted:  # before it is sent: it may be received before it is confirmed
                self._open[message.message_id] = wanted
            try:
                return await following(message)
            except Exception:
                self._open.pop(message.message_id, None)
                raise

        return note

    def consume(self, following: Handler) -> Handler:
        """Strike out what a consumer has handled, whatever the end was; a middleware."""

        async def strike(message: Message) -> object:
            self._running += 1
            try:
                result = await following(message)
            except Exception:  # it is a dead letter
                self._strike(message)
                raise
            finally:
                self._running -= 1
                self._changed.set()
            self._strike(message)
            return result

        return strike

    def _strike(self, message: Message) -> None:
        subscription = events.current_subscription()
        wanted = self._open.get(message.message_id)
        if wanted is None:
            return
        for consumer in list(wanted):
            intake = consumer.intake
            if intake is None or (
                subscription in intake.subscriptions
                and intake.serves(subscription, message.routing)
            ):
                wanted.discard(consumer)
        if not wanted:
            del self._open[message.message_id]

    async def settled(self) -> None:
        """Wait until everything that was published is handled."""
        while self._open:
            self._changed.clear()
            try:
                async with asyncio.timeout(QUIET_S):
                    await self._changed.wait()
            except TimeoutError:
                if self._is_quiet():
                    LOGGER.info(
                        '%d messages were taken by other instances, or expired', len(self._open)
                    )
                    self._open.clear()

    def _is_quiet(self) -> bool:
        subscriptions = [
            subscription
            for consumer in self._consumers()
            if consumer.intake is not None
            for subscription in consumer.intake.subscriptions
        ]
        served = self._listener.consumers
        return not self._running and all(
            subscription.active
            and (consumer := served.get((subscription.exchange_name, subscription.group or '')))
            and not consumer.lag
            for subscription in subscriptions
        )
