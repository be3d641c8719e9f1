"""One channel in confirm mode: what waits for the socket, and what for the broker."""

from __future__ import annotations

import asyncio
import re
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
_LARGE = 1024 * 1024  # bytes from which on a message might be more than the broker takes
_TOO_LARGE = re.compile(r'message size \d+ is larger than (?:configured )?max size (\d+)')


class Limits:
    """What is known of the broker's limits, over all lanes of a connection.

    The broker does not tell them: it closes the channel for a message that is too large.

    Attributes:
        body: Bytes of the largest body; None: not known.
    """

    body: int | None = None

    def refusal(self, message: Message) -> errors.PublishError | None:
        """Return why a message cannot be sent; None: nothing is known against it."""
        if self.body is None or len(message.body) <= self.body:
            return None
        return errors.PublishError(
            f'{message.exchange}/{message.routing} is larger than the broker accepts:'
            f' {len(message.body)} bytes, {self.body} are allowed',
            phase='confirm',
            maybe_sent=False,
        )


class Batch:
    """One call of `publish`: what it waits for, and what came of it.

    Attributes:
        failed: Position to error.
        missing: Positions that have reached nobody, because their exchange is not there or their
            channel was closed before.
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

    def settled(self, positions: Sequence[int], *, accepted: bool) -> None:
        """Note answers of the broker, all of them yes or no."""
        self._pending -= len(positions)
        if not accepted:
            for position in positions:
                self.failed.setdefault(position, _nack(self.messages[position]))
        if self._progress is not None:
            failed = self.failed  # also what was returned, which is confirmed all the same
            good = [p for p in positions if p not in failed] if failed else positions
            self._progress.advance(len(positions), good)
        self._wake()

    def refused(self, position: int, error: Exception | None) -> None:
        """Note a message that went down with its channel; None: it has reached nobody."""
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

    Messages that are added in one turn of the event loop leave in one write. A large one waits
    until all before it are confirmed: if the broker closes the channel for it, they are safe.
    """

    def __init__(self, client: Client, channel: Channel, limits: Limits) -> None:
        self.channel = channel
        self._client = client
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._tag = 0
        self._unconfirmed: OrderedDict[int, tuple[Batch, int]] = OrderedDict()
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._writing = False
        self._waiting: deque[tuple[asyncio.Future[bool], bytes, Batch, int]] = deque()
        self._ended = False
        self._nacked = False
        channel.on_confirm = self._on_confirm
        channel.on_return = self._on_return
        channel.closing.add_done_callback(self._on_closed)

    @property
    def usable(self) -> bool:
        """Whether the channel is open."""
        return not self._ended and not self.channel.is_closed

    @property
    def spent(self) -> bool:
        """Whether the broker has refused a message here, and nothing else is on its way.

        RabbitMQ goes on refusing on a channel after a full queue has room again.
        """
        return self._nacked and not self._unconfirmed and not self._waiting

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
        if error is None:
            self._refuse(lost, self._client.refusal(self.channel))
            return
        for batch, _ in lost:
            batch.abort(error)

    def _refuse(self, lost: Sequence[tuple[Batch, int]], refusal: Refused) -> None:
        found = _TOO_LARGE.search(refusal.text)
        if found is not None:
            self._limits.body = int(found[1])
        over = False
        for batch, position in lost:
            message = batch.messages[position]
            too_large = self._limits.refusal(message) if found is not None else None
            if too_large is not None or over:
                over = True  # what comes after it has reached nobody, and is sent again
                batch.refused(position, too_large)
            else:
                batch.refused(position, _refusal(message, refusal))

    def _has_room(self, payload: bytes) -> bool:
        if len(self._unconfirmed) >= (_WINDOW if len(payload) <= _LARGE else 1):
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
        self._nacked = self._nacked or (bool(slots) and not accepted)
        answered: dict[Batch, list[int]] = {}
        for batch, position in slots:
            answered.setdefault(batch, []).append(position)
        for batch, positions in answered.items():
            batch.settled(positions, accepted=accepted)
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
