"""One channel in confirm mode: what waits for the socket, and what for the broker."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence

from service_scaffold import errors
from service_scaffold.message import Message
from service_scaffold.transports.amqp_client import Client
from service_scaffold.transports.amqp_wire import Channel, Received, Refused
from service_scaffold.transports.base import Progress

_WINDOW = 1000  # unconfirmed messages on one channel
_BUFFER_BYTES = 256 * 1024
_RETRY_S = 0.002


class Batch:
    """One call of `publish`: what it waits for, and what came of it.

    Attributes:
        failed: Position to error.
        missing: Positions that were refused because their exchange is not there.
    """

    def __init__(self, messages: Sequence[Message], progress: Progress, mandatory: bool) -> None:
        self.messages = messages
        self.mandatory = mandatory
        self.failed: dict[int, Exception] = {}
        self.missing: list[int] = []
        self._progress: Progress | None = progress
        self._pending = 0
        self._waiter: asyncio.Future[None] | None = None
        self._lost: Exception | None = None

    def sent(self) -> None:
        """Note that one more message is on its way."""
        self._pending += 1
        if self._progress is not None:
            self._progress.phase = 'send'

    def settled(self, count: int) -> None:
        """Count answers of the broker."""
        self._pending -= count
        if self._progress is not None:
            self._progress.advance(count)
        self._wake()

    def refused(self, position: int, error: Exception | None) -> None:
        """Note a message that went down with its channel; None: its exchange is missing."""
        self._pending -= 1
        if error is None:
            self.missing.append(position)
        else:
            self.failed.setdefault(position, error)
        self._wake()

    def abort(self, reason: Exception) -> None:
        """The connection has ended."""
        self._lost = reason
        self._wake()

    def leave(self) -> None:
        """Nobody waits any more; confirms that still come are not counted."""
        self._progress = None

    async def wait(self) -> None:
        """Return when everything sent has its answer.

        Raises:
            ConnectionLost: It has ended meanwhile.
        """
        while self._pending and self._lost is None:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._lost is not None:
            raise self._lost

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done() and (self._lost or not self._pending):
            waiter.set_result(None)


class Lane:
    """One channel in confirm mode: what waits for the socket, and what for the broker.

    Messages that are added in one turn of the event loop leave in one write.
    """

    def __init__(self, client: Client, channel: Channel) -> None:
        self.channel = channel
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._tag = 0
        self._unconfirmed: OrderedDict[int, tuple[Batch, int]] = OrderedDict()
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._writing = False
        self._waiting: deque[tuple[asyncio.Future[bool], bytes, Batch, int]] = deque()
        self._ended = False
        channel.on_confirm = self._on_confirm
        channel.on_return = self._on_return
        channel.closing.add_done_callback(self._on_closed)

    @property
    def usable(self) -> bool:
        """Whether the channel is open."""
        return not self._ended and not self.channel.is_closed

    async def send(self, payload: bytes, batch: Batch, position: int) -> bool:
        """Put one message on its way, in turn, when there is room for it.

        Returns False, and has not sent it, when the channel has closed.
        """
        if not self.usable:
            return False
        if self._waiting or not self._has_room(payload):
            turn: asyncio.Future[bool] = self._loop.create_future()
            self._waiting.append((turn, payload, batch, position))
            return await turn
        self._add(payload, batch, position)
        return True

    def end(self, error: Exception | None = None) -> None:
        """Fail what is unconfirmed: with the connection, or with why the channel closed."""
        if self._ended:
            return
        self._ended = True
        lost = list(self._unconfirmed.values())
        self._unconfirmed.clear()
        self._outgoing.clear()
        for turn, *_ in self._waiting:
            if not turn.done():
                turn.set_result(False)
        self._waiting.clear()
        refusal = None if error is not None else self._client.refusal(self.channel)
        for batch, position in lost:
            if error is not None:
                batch.abort(error)
            else:
                assert refusal is not None
                batch.refused(position, _refusal(batch.messages[position], refusal))

    def _has_room(self, payload: bytes) -> bool:
        if len(self._unconfirmed) >= _WINDOW:
            return False
        return not self._outgoing_bytes or self._outgoing_bytes + len(payload) <= _BUFFER_BYTES

    def _admit(self) -> None:
        """Send what waits and has room now; in order, so that nobody is overtaken."""
        waiting = self._waiting
        while waiting and self._has_room(waiting[0][1]):
            turn, payload, batch, position = waiting.popleft()
            if not turn.done():  # else its caller has left
                self._add(payload, batch, position)
                turn.set_result(True)

    def _add(self, payload: bytes, batch: Batch, position: int) -> None:
        batch.sent()
        self._tag += 1
        self._unconfirmed[self._tag] = batch, position
        self._outgoing.append(payload)
        self._outgoing_bytes += len(payload)
        if len(self._outgoing) == 1 and not self._writing:
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        if self._writing or self._ended or not self._outgoing:
            return
        if not self.channel.writable:
            self._loop.call_later(_RETRY_S, self._write)
            return
        drained: asyncio.Future[None] = self._loop.create_future()
        drained.add_done_callback(self._on_drained)
        self.channel.write(b''.join(self._outgoing), drained)
        self._writing = True
        self._outgoing.clear()

    def _on_drained(self, _: object) -> None:
        self._writing = False
        self._outgoing_bytes = sum(map(len, self._outgoing))
        self._admit()
        self._write()

    def _on_confirm(self, tag: int, multiple: bool, accepted: bool) -> None:
        unconfirmed = self._unconfirmed
        if not multiple:
            found = unconfirmed.pop(tag, None)
            slots = [] if found is None else [found]
        else:
            slots = []
            while unconfirmed and next(iter(unconfirmed)) <= tag:
                slots.append(unconfirmed.popitem(last=False)[1])
        counts: dict[Batch, int] = {}
        for batch, position in slots:
            counts[batch] = counts.get(batch, 0) + 1
            if not accepted:
                batch.failed.setdefault(position, _nack(batch.messages[position]))
        for batch, count in counts.items():
            batch.settled(count)
        self._admit()

    def _on_return(self, returned: Received) -> None:
        """A mandatory message that no queue takes; the broker confirms it, too, right after."""
        message_id = returned.header.properties.message_id
        routing = returned.routing_key
        for batch, position in self._unconfirmed.values():
            message = batch.messages[position]
            if (
                batch.mandatory
                and position not in batch.failed
                and message.message_id == message_id
                and message.routing == routing
            ):
                batch.failed[position] = errors.NoResponder(
                    f'Nobody takes {message.exchange or "queue"}/{message.routing}'
                )
                return

    def _on_closed(self, _: object) -> None:
        self.end(self._client.reason() if self._client.ended.done() else None)


def _refusal(message: Message, refusal: Refused) -> Exception | None:
    """Say what became of an unconfirmed message when its channel closed; None: to be sent again."""
    named = f"exchange '{message.exchange}'" in refusal.text
    if refusal.code == 404 and named:
        return None
    if refusal.code == 403 and named:
        return errors.AccessRefused(
            f'The credentials do not allow to publish to {message.exchange!r}: {refusal.text}'
        )
    return errors.PublishError(
        f'{message.exchange}/{message.routing} was not confirmed, the broker has closed the'
        f' channel: {refusal.text}',
        phase='confirm',
    )


def _nack(message: Message) -> errors.PublishError:
    return errors.PublishError(
        f'The broker refuses {message.exchange}/{message.routing}: a queue is full, or has failed',
        phase='confirm',
    )
