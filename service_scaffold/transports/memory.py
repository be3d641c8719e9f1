"""The memory transport: a broker in the process, the default and no mock.

Bytes lie in between, groups keep and redeliver, connections can be lost; only the network is
missing, and a disk. See `docs/transports-memory.md` for what that means.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import ClassVar

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.journal.memory_broker import find_broker
from service_scaffold.journal.memory_network import Connection
from service_scaffold.message import Message
from service_scaffold.transports.address import Address
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
from service_scaffold.transports.memory_bus import MemoryBus
from service_scaffold.transports.memory_exchange import MemoryExchange, Sink
from service_scaffold.transports.memory_intake import GroupIntake, MemoryIntake
from service_scaffold.transports.memory_live import LiveIntake
from service_scaffold.transports.memory_presence import MemoryPresence
from service_scaffold.transports.memory_records import MemoryDelivery
from service_scaffold.transports.memory_state import MemoryState

LOGGER = logging.getLogger(__name__)

BATCH = 256
"""How many messages are published between two turns of the event loop."""


def broker(
    of: Settings | str = '', *, scope: object | None = None, clock: Clock | None = None
) -> MemoryBus:
    """Return the bus of a memory URL, for tests and tools.

    Args:
        of: The transport's settings; or a URL, or the name after `memory://`.
        scope: Whose bus a bare `memory://` is: the application.
        clock: Used if the bus is made now.
    """
    if isinstance(of, Settings):
        name, scope, clock = of.address.host, of.scope, of.clock
    else:
        name = Address.parse(of).host if '://' in of else of
    return find_broker(name, scope=scope, clock=clock).companion(MemoryBus, MemoryBus)


class MemoryTransport(Transport):
    """One connection to a broker in the same process."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        knows_responders=True, checks_exchange_type=True
    )

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.bus = broker(settings)
        who = f'{settings.role} {settings.name}@{settings.instance}'
        self._connection = Connection(self.bus.broker.network, who, self._severed)
        self._intakes: list[MemoryIntake] = []
        self._reply_box: str | None = None
        space = self.bus.spaces[settings.namespace]
        self._state = self.state = MemoryState(space.state, self._connection)
        self._presence = self.presence = MemoryPresence(space.presence, self._connection)

    async def connect(self) -> None:
        _ = self.lost  # made while the event loop runs: a fault may come from anywhere
        await self._connection.open()
        self._presence.connected()

    async def close(self) -> None:
        if self._connection.up:
            self._presence.closed()
        self._connection.close()
        self._end('The connection was closed')

    async def intake(self, spec: IntakeSpec) -> Intake:
        await asyncio.sleep(0)
        await self._connection.cross()
        place = self.bus.routing, self.bus.worklist, self._connection, self.settings
        intake: MemoryIntake
        if spec.group is None:
            intake = LiveIntake(*place)
        else:
            self.bus.routing.declare(
                spec.exchange, spec.exchange_type, passive=self.settings.declare == 'passive'
            )
            queue = self.bus.routing.queue(f'{spec.group}@{spec.exchange}')
            intake = GroupIntake(*place, spec, queue)
        self.bus.worklist.enter(intake)
        self._intakes = [one for one in self._intakes if not one.ended]
        self._intakes.append(intake)
        return intake

    def envelope(self, delivery: Delivery) -> Message:
        message: Message = delivery.raw
        return Message(
            message.exchange,
            message.routing,
            message.body,
            key=message.key,
            headers=dict(message.headers),
            message_id=message.message_id,
            correlation_id=message.correlation_id,
            reply_to=message.reply_to,
            content_type=message.content_type,
            timestamp=message.timestamp,
            redelivered=isinstance(delivery, MemoryDelivery) and delivery.redelivered,
            exchange_type=message.exchange_type,
        )

    async def publish(
        self, messages: Sequence[Message], progress: Progress, *, mandatory: bool = False
    ) -> Mapping[int, Exception]:
        self._connection.check()
        progress.phase = 'confirm'
        failures: dict[int, Exception] = {}
        for start in range(0, len(messages), BATCH):
            await asyncio.sleep(0)
            await self._connection.cross()
            await self._publish(
                messages[start : start + BATCH], start, failures, progress, mandatory
            )
        return failures

    async def dead_letter(self, message: Message) -> None:
        await asyncio.sleep(0)
        await self._connection.cross()
        try:
            exchange, _ = self.bus.routing.store(message.exchange)
        except errors.BindingRefused as error:
            raise errors.PublishError(str(error), phase='confirm', maybe_sent=False) from error
        letter = message.replace(exchange=exchange.name, exchange_type='topic')
        if self.bus.routing.refuses(letter):
            raise self._refusal(letter)
        sinks = exchange.match(letter.routing)
        await self._room(sinks)
        self.bus.routing.route(exchange, letter, sinks)
        self.bus.routing.published((exchange.name,))

    async def open_replies(self, on_reply: ReplyCallback) -> str:
        await asyncio.sleep(0)
        await self._connection.cross()
        self._reply_box = self.bus.replies.open(on_reply)
        return self._reply_box

    async def reply(self, request: Message, answer: Message) -> None:
        await asyncio.sleep(0)
        await self._connection.cross()
        address = request.reply_to or ''
        sent = answer.replace(routing=address, correlation_id=request.correlation_id)
        if not self.bus.replies.send(address, sent):
            LOGGER.debug('%s: nobody waits for an answer at %r any more', self.bus, address)

    async def _publish(
        self,
        messages: Sequence[Message],
        start: int,
        failures: dict[int, Exception],
        progress: Progress,
        mandatory: bool,
    ) -> None:
        """Publish one batch; the event loop gets no turn unless a queue is full."""
        routing = self.bus.routing
        careful = mandatory or routing.choosy
        exchanges: dict[tuple[str, str], MemoryExchange | Exception] = {}
        confirmed: list[int] = []
        for position, message in enumerate(messages, start):
            name = message.exchange, message.exchange_type
            exchange = exchanges.get(name)
            if exchange is None:
                exchange = exchanges[name] = self._declare(*name)
            if isinstance(exchange, Exception):
                failures[position] = exchange
                continue
            sinks = exchange.match(message.routing)
            if careful and (refusal := self._refused(message, sinks, mandatory)) is not None:
                failures[position] = refusal
                continue
            if routing.full and not routing.full.isdisjoint(sinks):
                routing.published({name for name, _ in exchanges})
                progress.advance(len(confirmed), confirmed)
                confirmed = []
                await self._room(sinks)
            routing.route(exchange, message, sinks)
            confirmed.append(position)
        routing.published({name for name, _ in exchanges})
        progress.advance(len(confirmed), confirmed)

    def _declare(self, name: str, exchange_type: str) -> MemoryExchange | Exception:
        try:
            return self.bus.routing.declare(
                name, exchange_type, passive=self.settings.declare == 'passive'
            )
        except errors.BindingRefused as error:
            return error

    def _refused(
        self, message: Message, sinks: Sequence[Sink], mandatory: bool
    ) -> Exception | None:
        if self.bus.routing.refuses(message):
            return self._refusal(message)
        if mandatory and not sinks:
            return errors.NoResponder(
                f'Nobody takes {message.exchange}/{message.routing} on {self.bus}'
            )
        return None

    def _refusal(self, message: Message) -> errors.PublishError:
        return errors.PublishError(
            f'{self.bus} refuses {message.exchange}/{message.routing}', phase='confirm'
        )

    async def _room(self, sinks: Sequence[Sink]) -> None:
        """Wait until no queue among `sinks` is full, or the connection ends."""
        while not self.bus.routing.full.isdisjoint(sinks):
            room = asyncio.ensure_future(self.bus.routing.room(sinks))
            ended = asyncio.ensure_future(self._connection.ended())
            try:
                await asyncio.wait((room, ended), return_when=asyncio.FIRST_COMPLETED)
            finally:
                room.cancel()
                ended.cancel()
            await self._connection.cross()

    def _severed(self, reason: errors.ConnectionLost) -> None:
        loop = self._connection.loop
        if loop is not None and not loop.is_closed():
            self.lose(reason)
        self._presence.lost()
        self._end(str(reason))

    def _end(self, reason: str) -> None:
        for intake in self._intakes:
            intake.end(reason)
        self._intakes.clear()
        if self._reply_box is not None:
            self.bus.replies.close(self._reply_box)
        self._state.wake()
