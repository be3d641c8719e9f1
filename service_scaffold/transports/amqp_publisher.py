"""Publishing with confirms: pipelined, in order, with little work for each message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from service_scaffold import errors
from service_scaffold.message import Message
from service_scaffold.transports.amqp_client import Client
from service_scaffold.transports.amqp_lane import Batch, Lane, Limits
from service_scaffold.transports.amqp_properties import properties_of
from service_scaffold.transports.amqp_topology import Topology
from service_scaffold.transports.base import Progress

_MAX_LANES = 64


class Publisher:
    """Publishes on one connection; each exchange has a channel of its own.

    The broker closes the channel on which an exchange is missing or forbidden, with all that is
    unconfirmed on it; messages to other exchanges shall not suffer from that.
    """

    def __init__(self, client: Client, topology: Topology) -> None:
        self._client = client
        self._topology = topology
        self._lanes: dict[str, Lane] = {}
        self._limits = Limits()
        self._opening = asyncio.Lock()
        client.ended.add_done_callback(self._on_ended)

    async def publish(
        self, messages: Sequence[Message], progress: Progress, *, mandatory: bool = False
    ) -> Mapping[int, Exception]:
        """Publish and wait for the confirms; see `Transport.publish`."""
        batch = Batch(messages, progress, mandatory)
        try:
            await self._send(batch, range(len(messages)), progress)
            if batch.missing:
                # The exchange was deleted since we declared it, or the channel was closed for
                # another message: nothing of this was accepted, but for what was confirmed too
                # late to be told.
                again, batch.missing = sorted(batch.missing), []
                for position in again:
                    self._topology.forget(messages[position].exchange)
                await self._send(batch, again, progress)
        finally:
            batch.leave()
        for position in batch.missing:
            batch.failed[position] = errors.PublishError(
                f'The exchange {messages[position].exchange!r} does not stay on the broker',
                phase='confirm',
            )
        return batch.failed

    async def _send(self, batch: Batch, positions: Iterable[int], progress: Progress) -> None:
        by_exchange: dict[tuple[str, str], list[int]] = {}
        for position in positions:
            message = batch.messages[position]
            by_exchange.setdefault((message.exchange, message.exchange_type), []).append(position)
        for (exchange, exchange_type), mine in by_exchange.items():
            try:
                if exchange:  # the default exchange is always there
                    await self._topology.exchange(exchange, exchange_type)
            except (errors.BindingRefused, errors.AccessRefused) as error:
                batch.failed.update(dict.fromkeys(mine, error))
            else:
                await self._write(batch, exchange, mine)
        if progress.phase == 'send':
            progress.phase = 'confirm'
        await batch.wait()

    async def _write(self, batch: Batch, exchange: str, positions: Sequence[int]) -> None:
        lane = await self._lane(exchange)
        encode = lane.channel.content
        for index, position in enumerate(positions):
            message = batch.messages[position]
            routing = message.routing
            too_large = self._limits.refusal(message)
            if too_large is not None:
                batch.failed[position] = too_large
                continue
            try:
                payload = encode(
                    exchange, routing, message.body, properties_of(message), batch.mandatory
                )
            except ValueError as error:
                batch.failed[position] = errors.PublishError(
                    f'{exchange}/{routing} cannot be sent by AMQP: {error}'
                )
                continue
            if not await lane.send(payload, batch, position):
                if self._client.ended.done():
                    raise self._client.reason()
                batch.missing += positions[index:]  # not written: they need a new channel
                return

    async def _lane(self, exchange: str) -> Lane:
        name = exchange if exchange in self._lanes or len(self._lanes) < _MAX_LANES else ''
        lane = self._lanes.get(name)
        if lane is not None and lane.usable and not lane.spent:
            return lane
        async with self._opening:
            lane = self._lanes.get(name)
            if lane is None or not lane.usable or lane.spent:
                self._client.discard(None if lane is None else lane.channel)
                channel = await self._client.channel(confirms=True)
                lane = self._lanes[name] = Lane(self._client, channel, self._limits)
            return lane

    def _on_ended(self, _: object) -> None:
        for lane in self._lanes.values():
            lane.end(self._client.reason())
