"""The consumers of one listener: who serves which subscription, over one connection at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from service_scaffold.events.consumer import Consumer, Surroundings
from service_scaffold.events.group import GroupConsumer
from service_scaffold.events.live import LiveConsumer
from service_scaffold.events.subscription import EventSubscription
from service_scaffold.transports.base import Transport


class Consumers:
    """One consumer for each group and exchange, and one for all live views."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._consumers: dict[tuple[str, str] | None, Consumer] = {}
        self._of: dict[EventSubscription, Consumer] = {}
        self._changed = asyncio.Event()

    @property
    def by_name(self) -> Mapping[tuple[str, str], Consumer]:
        """The consumers by exchange and group; that of the live views under two empty names."""
        return {
            ('', '') if key is None else (key[1], key[0]): consumer
            for key, consumer in self._consumers.items()
        }

    def add(self, subscription: EventSubscription) -> None:
        """Serve a subscription.

        Raises:
            ValueError: Its group has the exchange under another type.
            TypeError: Its handler cannot take messages.
        """
        consumer = self._consumer(subscription)
        consumer.add(subscription)
        self._of[subscription] = consumer
        self._changed.set()

    def remove(self, subscription: EventSubscription) -> None:
        """Serve a subscription no longer."""
        consumer = self._of.pop(subscription, None)
        if consumer is not None:
            consumer.remove(subscription)

    def compile(self) -> None:
        """Compile every chain again: there is one middleware more."""
        for consumer in self._consumers.values():
            consumer.compile()

    async def drain(self) -> None:
        """Take nothing more in, hand back what has not begun, and let running handlers finish.

        When it is cancelled, handlers are, too, and what they had is not settled.
        """
        consumers = list(self._consumers.values())
        await asyncio.gather(*(consumer.stop() for consumer in consumers))
        try:
            await asyncio.gather(*(consumer.drained() for consumer in consumers))
        except asyncio.CancelledError:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Cancel the handlers that run: what they had is not processed."""
        for consumer in self._consumers.values():
            consumer.cancel()

    def renew(self, subscriptions: Iterable[EventSubscription]) -> None:
        """Begin anew with these subscriptions, after a stop."""
        self._consumers.clear()
        self._of.clear()
        self._changed = asyncio.Event()  # the last one may belong to another event loop
        for subscription in subscriptions:
            self.add(subscription)

    async def serve(self, transport: Transport) -> None:
        """Serve every consumer over one connection, those that come later included."""
        serving: dict[Consumer, asyncio.Task[None]] = {}
        self._surroundings.outlet.attach(transport)
        try:
            while True:
                self._changed.clear()
                for consumer in self._consumers.values():
                    if consumer.subscriptions and consumer not in serving:
                        serving[consumer] = self._serve(consumer, transport, serving)
                await self._forget_unused(serving)
                await self._changed.wait()
        finally:
            for task in serving.values():
                task.cancel()
            if serving:
                await asyncio.wait(serving.values())

    def _serve(
        self, consumer: Consumer, transport: Transport, serving: dict[Consumer, asyncio.Task[None]]
    ) -> asyncio.Task[None]:
        def ended(task: asyncio.Task[None]) -> None:
            if not consumer.gave_up:
                serving.pop(consumer, None)
                self._changed.set()

        task: asyncio.Task[None] = self._surroundings.spawn(
            consumer.serve(transport), f'{consumer} session'
        )
        task.add_done_callback(ended)
        return task

    async def _forget_unused(self, serving: Mapping[Consumer, asyncio.Task[None]]) -> None:
        """Drop consumers that nobody subscribes through any more and that have closed."""
        for key, consumer in list(self._consumers.items()):
            if not consumer.subscriptions and consumer not in serving and consumer.idle:
                del self._consumers[key]
                await consumer.stop()

    def _consumer(self, subscription: EventSubscription) -> Consumer:
        group, exchange = subscription.group, subscription.exchange_name
        key = None if group is None else (group, exchange)
        consumer = self._consumers.get(key)
        if consumer is None:
            if group is None:
                consumer = LiveConsumer(self._surroundings)
            else:
                exchange_type = subscription.exchange_type
                consumer = GroupConsumer(group, exchange, exchange_type, self._surroundings)
            self._consumers[key] = consumer
        elif isinstance(consumer, GroupConsumer):
            _agree(consumer, subscription.exchange_type)
        return consumer


def _agree(consumer: GroupConsumer, exchange_type: str) -> None:
    """Let a group without subscriptions change the exchange's type; refuse it to any other."""
    if consumer.subscriptions and consumer.exchange_type != exchange_type:
        raise ValueError(
            f'{consumer} already takes it as a {consumer.exchange_type} exchange, not'
            f' {exchange_type}'
        )
    consumer.exchange_type = exchange_type
