"""One consumer of an AMQP queue: of a group, or of all live views of a listener."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from service_scaffold import errors
from service_scaffold.transports.amqp_client import Client
from service_scaffold.transports.amqp_properties import delivery_of
from service_scaffold.transports.amqp_settlement import Settlement
from service_scaffold.transports.amqp_topology import Topology
from service_scaffold.transports.amqp_wire import Channel, Received, Refused
from service_scaffold.transports.base import Binding, Delivery, Intake

LOGGER = logging.getLogger(__name__)

LIVE_LIMIT = 100_000
"""How many deliveries to live views wait for the event loop before the oldest is dropped."""
_MAX_PREFETCH = 65_535
_CLOSE_S = 1.0
_TURN_S = 0.005
_WARN_S = 60.0


class AmqpIntake(Intake):
    """Takes messages of one queue.

    Args:
        queue: Its name; declared already.
        prefetch: How many unsettled deliveries the broker may have given us; None for live views,
            which settle nothing.

    Attributes:
        closed: Whether `close` was called.
        dropped: Deliveries to live views that were dropped because nobody fetched them.
    """

    def __init__(
        self, client: Client, topology: Topology, queue: str, prefetch: int | None
    ) -> None:
        self._client = client
        self._topology = topology
        self._queue = queue
        self._prefetch = prefetch
        self._channel: Channel | None = None
        self._consumer: str | None = None
        self._settlement: Settlement | None = None
        self._buffer: deque[Received] = deque()
        self._arrived = asyncio.Event()
        self._ended: Exception | None = None
        self.closed = False
        self._warned_at = float('-inf')
        self.dropped = 0
        self.epoch = 0

    async def open(self) -> None:
        """Start to consume.

        Raises:
            BindingRefused: The broker refuses the consumer.
            AccessRefused: The credentials do not allow it.
        """
        self._client.ended.add_done_callback(self._on_client_ended)
        live = self._prefetch is None
        channel = self._channel = await self._client.channel()
        channel.on_consumer_cancel_callbacks.add(self._on_cancel)
        channel.closing.add_done_callback(self._on_channel_closed)
        channel.on_delivery = self._on_live if live else self._on_group
        try:
            if self._prefetch is not None:
                self._settlement = Settlement(channel, self._prefetch)
                count = min(self._prefetch, _MAX_PREFETCH)
                await self._client.call(channel.basic_qos(prefetch_count=count))
            answer = await self._client.call(
                channel.basic_consume(self._queue, never, no_ack=live, exclusive=live)
            )
        except Refused as refused:
            kind = errors.AccessRefused if refused.code == 403 else errors.BindingRefused
            raise kind(
                f'The broker refuses a consumer of queue {self._queue!r}: {refused.text}'
            ) from refused
        self._consumer = answer.consumer_tag

    async def bind(self, bindings: Sequence[Binding]) -> Mapping[Binding, Exception]:
        self._check()
        return await self._topology.bind(self._queue, bindings)

    async def unbind(self, bindings: Sequence[Binding]) -> None:
        await self._topology.unbind(self._queue, bindings)

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        await asyncio.sleep(0)
        buffer = self._buffer
        while not buffer:
            self._check()
            self._arrived.clear()
            await self._arrived.wait()
        return [delivery_of(buffer.popleft()) for _ in range(min(limit, len(buffer)))]

    def alive(self, delivery: Delivery) -> bool:
        return self.epoch == 0 and delivery.raw.channel is self._channel

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        if self._settlement is not None and self.epoch == 0:
            self._settlement.done(self._tags(deliveries))

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        if self._settlement is not None and self.epoch == 0:
            self._settlement.back(self._tags(deliveries))

    async def pause(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None and self._channel is not None and self._ended is None:
            try:
                await self._client.call(self._channel.basic_cancel(consumer))
            except (Refused, errors.ConnectionLost) as error:
                LOGGER.debug('Consumer of %s ended while pausing: %s', self._queue, error)
        self._hand_back()

    async def close(self, *, forget: bool = False) -> None:
        if self.closed:
            return
        self.closed = True
        self._client.ended.remove_done_callback(self._on_client_ended)
        channel = self._channel
        if channel is not None and self.epoch == 0:
            channel.on_delivery = None
            self._hand_back()
            await self._flush()
            await self._client.close_channel(channel, _CLOSE_S)
        self._void(errors.IntakeLost(f'The consumer of queue {self._queue!r} is closed'))

    def abandon(self) -> None:
        """Let go of what `open` has got before it failed."""
        self._client.ended.remove_done_callback(self._on_client_ended)
        self._client.discard(self._channel)
        self._void(errors.IntakeLost(f'The consumer of queue {self._queue!r} was not opened'))

    def flush(self) -> None:
        """Tell the broker what is settled, as far as that is possible without waiting."""
        if self._settlement is not None:
            self._settlement.flush()

    async def _flush(self) -> None:
        deadline = asyncio.get_running_loop().time() + _CLOSE_S / 2
        while self._settlement is not None and not self._settlement.flush():
            if self._client.ended.done() or asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(_TURN_S)

    def _tags(self, deliveries: Sequence[Delivery]) -> list[int]:
        channel = self._channel  # a tag of another channel would settle something else
        return [tag_of(d.raw) for d in deliveries if d.raw.channel is channel]

    def _hand_back(self) -> None:
        if self._settlement is not None:
            self._settlement.back([tag_of(received) for received in self._buffer])
        self._buffer.clear()

    def _check(self) -> None:
        if self._ended is not None:
            raise type(self._ended)(str(self._ended))

    def _on_group(self, message: Received) -> None:
        self._buffer.append(message)
        self._arrived.set()

    def _on_live(self, message: Received) -> None:
        if len(self._buffer) >= LIVE_LIMIT:
            self._buffer.popleft()
            self._count_drop()
        self._buffer.append(message)
        self._arrived.set()

    def _count_drop(self) -> None:
        self.dropped += 1
        now = asyncio.get_running_loop().time()
        if now - self._warned_at >= _WARN_S:
            self._warned_at = now
            LOGGER.warning(
                'Live views of queue %s: %d deliveries dropped so far, the event loop is too busy',
                self._queue,
                self.dropped,
            )

    def _on_cancel(self, _: object) -> None:
        """The queue was deleted or has moved; what we hold of it can still be handled."""
        self._consumer = None
        self._end(errors.IntakeLost(f'The broker has ended the consumer of queue {self._queue!r}'))

    def _on_channel_closed(self, _: object) -> None:
        if self._client.ended.done() or self._channel is None:
            return
        refusal = self._client.refusal(self._channel)
        self._void(
            errors.IntakeLost(
                f'The broker has closed the channel of queue {self._queue!r}: {refusal.text}'
            )
        )

    def _on_client_ended(self, _: object) -> None:
        self._void(self._client.reason())

    def _end(self, reason: Exception) -> None:
        if self._ended is None:
            self._ended = reason
        self._arrived.set()

    def _void(self, reason: Exception) -> None:
        """The channel has gone: what was handed out and not settled is the broker's again."""
        self.epoch = 1
        if self._settlement is not None:
            self._settlement.end()
            self._buffer.clear()
        self._end(reason)


async def never(message: Received) -> None:
    """Deliveries go to `Channel.on_delivery`; the library wants a callback all the same."""


def tag_of(received: Any) -> int:
    """Return the delivery tag of a received message."""
    tag: int = received.delivery.delivery_tag
    return tag
