"""Events over RabbitMQ (AMQP 0-9-1).

An exchange is an exchange, a routing key a routing key, a group a durable quorum queue
`group@exchange`, the live views of a listener one exclusive queue with a fresh name. Dead letters
of `exchange` go to the topic exchange and the quorum queue `exchange.dlq`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from service_scaffold import errors
from service_scaffold.message import Message
from service_scaffold.transports.amqp_client import Client
from service_scaffold.transports.amqp_intake import AmqpIntake, never
from service_scaffold.transports.amqp_presence import AmqpBoard
from service_scaffold.transports.amqp_properties import message_of
from service_scaffold.transports.amqp_publisher import Publisher
from service_scaffold.transports.amqp_state import AmqpState
from service_scaffold.transports.amqp_topology import Topology
from service_scaffold.transports.amqp_wire import Channel, Received, Refused
from service_scaffold.transports.base import (
    Capabilities,
    Delivery,
    Intake,
    IntakeSpec,
    Progress,
    ReplyCallback,
    Settings,
    Transport,
)
from service_scaffold.transports.leased_presence import LeasedPresence

LOGGER = logging.getLogger(__name__)

HEARTBEAT_S = 10
"""Seconds between heartbeats; `?heartbeat=` in the URL changes it, 0 switches them off."""

AUTH = ('plain', 'external')
"""What `?auth=` in the URL may be: user and password, or the client certificate."""


class AmqpTransport(Transport):
    """One connection to RabbitMQ 3.10 or later.

    The URL may hold `?heartbeat=<seconds>` and `?auth=external` (the client certificate is the
    credential).
    """

    capabilities = Capabilities(knows_responders=True, checks_exchange_type=True)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._heartbeat_s = _heartbeat(settings)
        _check_auth(settings)
        self._client: Client | None = None
        self._topology: Topology | None = None
        self._publisher: Publisher | None = None
        self._intakes: set[AmqpIntake] = set()
        self._closed = False
        space, limit_s = settings.namespace, settings.connect_timeout_s
        self._state = self.state = AmqpState(
            self._parts, f'{space}.state', settings.retention_s, limit_s
        )
        board = AmqpBoard(self._parts, f'{space}.presence', settings.retention_s, limit_s)
        self._presence = self.presence = LeasedPresence(
            board, settings.lease_s, settings.clock, self.lose
        )

    async def connect(self) -> None:
        client = self._client = Client(self.settings, heartbeat_s=self._beat_s())
        await client.open()
        client.ended.add_done_callback(self._on_ended)
        self._topology = Topology(client, create=self.settings.declare == 'create')
        self._publisher = Publisher(client, self._topology)
        await self._presence.connected()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        client = self._client
        await self._presence.close(good=client is not None and not client.ended.done())
        await self._state.close()
        for intake in self._intakes:
            intake.flush()
        if self._client is not None:
            await self._client.close()

    async def intake(self, spec: IntakeSpec) -> Intake:
        client, topology, _ = self._parts()
        if spec.group is None:
            queue, prefetch = await topology.own_queue(self._prefix()), None
        else:
            queue = await topology.group_queue(spec.group, spec.exchange, spec.exchange_type)
            prefetch = spec.prefetch
        intake = AmqpIntake(client, topology, queue, prefetch)
        try:
            await intake.open()
        except BaseException:
            intake.abandon()
            raise
        self._intakes = {open_one for open_one in self._intakes if not open_one.closed} | {intake}
        return intake

    def envelope(self, delivery: Delivery) -> Message:
        return message_of(delivery.raw, self.settings.clock)

    async def publish(
        self, messages: Sequence[Message], progress: Progress, *, mandatory: bool = False
    ) -> Mapping[int, Exception]:
        _, _, publisher = self._parts()
        return await publisher.publish(messages, progress, mandatory=mandatory)

    async def dead_letter(self, message: Message) -> None:
        _, topology, publisher = self._parts()
        for last in (False, True):
            try:
                store = await topology.dead_letters(message.exchange)
            except errors.BindingRefused as error:
                raise errors.TransportError(str(error)) from error
            letter = message.replace(exchange=store, exchange_type='topic')
            refused = await publisher.publish([letter], Progress(), mandatory=True)
            refusal = refused.get(0)
            if refusal is None:
                return
            if last or not isinstance(refusal, errors.NoResponder):
                raise errors.TransportError(
                    f'The dead-letter store {store!r} does not take {letter.routing}: {refusal}'
                ) from refusal
            topology.forget(store)  # its queue was deleted since we declared it

    async def open_replies(self, on_reply: ReplyCallback) -> str:
        client, topology, _ = self._parts()
        queue = await topology.own_queue(f'{self._prefix()}.replies')
        channel = await client.channel()

        def take(received: Received) -> None:
            try:
                on_reply(message_of(received, self.settings.clock))
            except Exception:
                LOGGER.exception('A reply could not be taken')

        def ended(_: object) -> None:
            # Nobody would hear of the answers to requests that are under way.
            client.end(errors.ConnectionLost(f'The reply queue {queue!r} has gone'))

        channel.on_delivery = take
        channel.on_consumer_cancel_callbacks.add(ended)
        await self._consume(client, channel, queue)
        channel.closing.add_done_callback(ended)
        return queue

    async def reply(self, request: Message, answer: Message) -> None:
        _, _, publisher = self._parts()
        if not request.reply_to:
            return
        message = answer.replace(
            exchange='',
            routing=request.reply_to,
            key=request.reply_to,
            correlation_id=request.correlation_id,
        )
        error = (await publisher.publish([message], Progress(), mandatory=True)).get(0)
        if isinstance(error, errors.NoResponder):
            LOGGER.debug('Nobody waits for the answer to %s any more', request.message_id)
        elif error is not None:
            raise error

    async def _consume(self, client: Client, channel: Channel, queue: str) -> None:
        try:
            await client.call(channel.basic_consume(queue, never, no_ack=True, exclusive=True))
        except Refused as refused:
            raise errors.TransportError(
                f'The broker refuses a consumer of {queue!r}: {refused.text}'
            ) from refused

    def _parts(self) -> tuple[Client, Topology, Publisher]:
        client, topology, publisher = self._client, self._topology, self._publisher
        if client is None or topology is None or publisher is None:
            raise errors.ConnectionLost(f'Connection to {self.settings.address}: not connected')
        if client.ended.done():
            raise client.reason()
        return client, topology, publisher

    def _beat_s(self) -> int:
        """Return the heartbeat; quick enough to notice our own silence before that of others."""
        if not (self._heartbeat_s and self._presence.in_use):
            return self._heartbeat_s
        return max(1, min(self._heartbeat_s, int(self.settings.lease_s / 3)))

    def _prefix(self) -> str:
        return f'{self.settings.name}.{self.settings.instance}'

    def _on_ended(self, _: object) -> None:
        if self._client is not None and not self._closed:
            self.lose(self._client.reason())


def _heartbeat(settings: Settings) -> int:
    text = settings.address.query.get('heartbeat', str(HEARTBEAT_S))
    if not text.isdigit() or int(text) > 65_535:
        raise errors.ConfigError(
            f'heartbeat in the event bus URL must be whole seconds, got {text!r}'
        )
    return int(text)


def _check_auth(settings: Settings) -> None:
    text = settings.address.query.get('auth', 'plain')
    if text.lower() not in AUTH:
        raise errors.ConfigError(
            f'auth in the event bus URL must be one of {", ".join(AUTH)}, got {text!r}'
        )
