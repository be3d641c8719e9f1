"""What is on its way to an MQTT broker: a window of publishes that wait for their confirms."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from service_scaffold import errors
from service_scaffold.message import Message
from service_scaffold.transports.base import Progress

Outgoing = tuple[str, bytes, bytes, bool]
"""Topic, body, packed properties, whether the broker retains it."""

Encode = Callable[[Message], Outgoing]


class _Batch:
    """Messages that are published together, and what became of them."""

    __slots__ = (
        'done',
        'encode',
        'failed',
        'following',
        'mandatory',
        'messages',
        'progress',
        'unconfirmed',
    )

    def __init__(
        self, messages: Sequence[Message], encode: Encode, progress: Progress, mandatory: bool
    ) -> None:
        self.messages = messages
        self.encode = encode
        self.progress = progress
        self.mandatory = mandatory
        self.following = 0
        self.unconfirmed = 0
        self.failed: dict[int, Exception] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def handed_over(self) -> bool:
        return self.following == len(self.messages)

    def settle(self) -> None:
        if self.handed_over and not self.unconfirmed and not self.done.done():
            self.done.set_result(None)


class Outbox:
    """Publishes in order, never more at once than `window`, and tells what the broker said.

    Callers take turns, so that one event need not wait for the thousands of another caller.

    Args:
        send: Hands one message to the connection and returns its packet id; raises an
            `EventError` for a message that the broker would not take.
        congested: Tells whether the network takes nothing more now.
    """

    def __init__(self, send: Callable[[Outgoing], int], congested: Callable[[], bool]) -> None:
        self._send = send
        self._congested = congested
        self._batches: deque[_Batch] = deque()
        self._sent: dict[int, tuple[_Batch, int]] = {}
        self._unwritten: list[_Batch] = []
        self._oldest: tuple[_Batch, int] | None = None
        self._oldest_since = 0.0
        self.window = 1

    async def publish(
        self,
        messages: Sequence[Message],
        encode: Encode,
        progress: Progress,
        *,
        mandatory: bool = False,
    ) -> dict[int, Exception]:
        """Publish `messages` and wait for all confirms; returns early after `end`.

        When it is cancelled, nothing more of them is sent.

        Args:
            mandatory: One that reaches nobody has failed.
        """
        batch = _Batch(messages, encode, progress, mandatory)
        if messages:
            self._batches.append(batch)
            self.pump()
            try:
                await batch.done
            finally:
                if batch in self._batches:
                    self._batches.remove(batch)
        return batch.failed

    def pump(self) -> None:
        """Hand over what the window has room for."""
        while self._batches and len(self._sent) < self.window and not self._congested():
            batch = self._batches.popleft()
            self._hand_over(batch)
            if not batch.handed_over:
                self._batches.append(batch)
            elif batch.unconfirmed:
                self._unwritten.append(batch)
            batch.settle()

    def written(self) -> None:
        """Note that every byte handed over has left."""
        for batch in self._unwritten:
            batch.progress.phase = 'confirm'
        self._unwritten.clear()

    def confirm(
        self, packet_id: int, refusal: Exception | None = None, *, heard: bool = True
    ) -> None:
        """Note the broker's answer to one message, and go on with the next.

        Args:
            refusal: Why the broker has not taken it.
            heard: It reaches anybody, for all that the broker says.
        """
        found = self._sent.pop(packet_id, None)
        if found is not None:
            batch, position = found
            batch.unconfirmed -= 1
            if refusal is None and batch.mandatory and not heard:
                message = batch.messages[position]
                refusal = errors.NoResponder(f'Nobody takes {message.exchange}/{message.routing}')
            if refusal is None:
                batch.progress.advance(1, (position,))
            else:
                batch.failed[position] = refusal
            batch.settle()
        self.pump()

    def stuck_s(self, now: float) -> float:
        """Return how long the oldest publish without a confirm has been the oldest.

        Not how old it is: of a full window on a slow network the last one has to wait for all
        others. To be asked now and then, since it is only noticed here that the oldest changes.
        """
        oldest = next(iter(self._sent.values()), None)
        if oldest is None or oldest is not self._oldest:
            self._oldest, self._oldest_since = oldest, now
        return now - self._oldest_since

    def end(self) -> None:
        """Wake all callers: there will be no more confirms."""
        for batch in [*self._batches, *(batch for batch, _ in self._sent.values())]:
            if not batch.done.done():
                batch.done.set_result(None)
        self._batches.clear()
        self._sent.clear()
        self._unwritten.clear()

    def _hand_over(self, batch: _Batch) -> None:
        position = batch.following
        batch.following += 1
        try:
            packet_id = self._send(batch.encode(batch.messages[position]))
        except errors.EventError as error:
            batch.failed[position] = error
            return
        batch.unconfirmed += 1
        self._sent[packet_id] = (batch, position)
        if batch.progress.phase == 'connect':
            batch.progress.phase = 'send'
