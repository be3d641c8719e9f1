"""Retained messages below one topic: put, and read to their end."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence

from service_scaffold import errors
from service_scaffold.message import Message
from service_scaffold.transports.base import Progress
from service_scaffold.transports.mqtt_connection import Connection
from service_scaffold.transports.mqtt_outbox import Outgoing
from service_scaffold.transports.mqtt_packets import Incoming, expiry_properties
from service_scaffold.transports.state import Change

LOGGER = logging.getLogger(__name__)

BEHIND_LIMIT = 100_000
"""How many changes may wait for one reader before it is cut off."""
SAFE = 65_000
"""So many retained messages a broker can send at once; what is more it has to queue."""


class Retained:
    """Retained messages on `{root}/…`, seen from one connection.

    Args:
        up: Returns the connection while it is up; raises ConnectionLost.
        root: The topic above them.
        levels: How many levels they have below it.
        limit_s: How long the broker may be silent while it sends what is stored.
        expiry_s: How long a message is retained; None: for ever.
    """

    def __init__(
        self,
        up: Callable[[], Connection],
        root: str,
        levels: int,
        limit_s: float,
        expiry_s: int | None = None,
    ) -> None:
        self._up = up
        self._root = root
        self._filter = '/'.join([root, *['+'] * levels])
        self._marks = f'{root}.marks'
        self._limit_s = limit_s
        self._properties = expiry_properties(expiry_s)
        self._readers: list[_Reader] = []

    def topic(self, name: str) -> str:
        """Return the topic of what is stored under a name."""
        return f'{self._root}/{name}'

    async def put(self, changes: Sequence[Change]) -> None:
        """Have the broker retain values, or forget them; see `State.put_many`."""
        messages = [Message(self._root, name, value or b'') for name, value in changes]
        failed = await self._up().publish(messages, self._encode, Progress())
        if failed:
            position, error = min(failed.items())
            raise errors.PublishError(
                f'{len(failed)} of {len(changes)} values were not stored, first'
                f' {self.topic(changes[position][0])}: {error}',
                phase='confirm',
                maybe_sent=False,
                failed=tuple(sorted(failed)),
            ) from error

    async def read(self) -> AsyncGenerator[Sequence[Change] | None, None]:
        """Yield what is retained, then None once, then the changes, in batches.

        The end is told by a message of our own, which is published when the broker has confirmed
        the subscription: Mosquitto has queued all that is retained by then. A broker that takes
        its time gives the rest as changes; one that is older than what was seen is passed over.

        Raises:
            ConnectionLost: The connection has ended, the end did not come, or the reader is too
                slow.
            BindingRefused: The broker refuses the subscription.
            AccessRefused: The credentials do not allow it.
        """
        connection = self._up()
        reader = _Reader(f'{self._marks}/{secrets.token_hex(8)}')
        self._readers.append(reader)
        marking: asyncio.Future[None] | None = None
        try:
            await self._subscribe(connection, reader)
            # Not awaited: a broker whose queue is full drops its answers, too.
            marking = asyncio.ensure_future(self._mark(connection, reader))
            while True:
                await reader.wait(None if reader.ended else self._limit_s, self._filter)
                batch, ended = reader.take()
                if batch:
                    yield batch
                if ended:
                    connection.unsubscribe_soon(reader.marker)
                    yield None
        finally:
            self._readers.remove(reader)
            if marking is not None:
                marking.cancel()
            if not self._readers:
                connection.unsubscribe_soon(self._filter)

    async def _subscribe(self, connection: Connection, reader: _Reader) -> None:
        for text in (reader.marker, self._filter):
            try:
                async with asyncio.timeout(self._limit_s):
                    refused = await connection.subscribe({text: None})
            except TimeoutError:
                raise errors.ConnectionLost(
                    f'{connection} has not answered for {self._limit_s:g} s: {text!r}'
                ) from None
            if refused:
                raise refused[text]

    async def _mark(self, connection: Connection, reader: _Reader) -> None:
        """Publish the reader's marker; what becomes of it is told to the reader only."""
        mark = Message(reader.marker, '', b'')
        try:
            failed = await connection.publish([mark], _mark, Progress())
        except errors.EventError as error:
            reader.end(error)
            return
        if failed:
            refusal = errors.BindingRefused(f'{connection} takes nothing on {self._marks}/+')
            refusal.__cause__ = failed[0]
            reader.end(refusal)

    def _encode(self, message: Message) -> Outgoing:
        return self.topic(message.routing), message.body, self._properties, True

    def offer(self, incoming: Incoming) -> bool:
        """Take a message if it is one of ours; tell whether it is."""
        topic = incoming.topic
        if topic.startswith(self._root + '/'):
            name = topic[len(self._root) + 1 :]
            for reader in self._readers:
                reader.add(name, incoming.body or None, retained=incoming.retained)
        elif topic.startswith(self._marks + '/'):
            for reader in self._readers:
                reader.mark(topic)
        else:
            return False
        return True

    def end(self, reason: Exception) -> None:
        """The connection has ended: end all readers."""
        for reader in self._readers:
            reader.end(reason)


class _Reader:
    """What one reader has not taken yet."""

    def __init__(self, marker: str) -> None:
        self.marker = marker
        self.ended = False
        self._end_at: int | None = None
        self._arrived: deque[Change] = deque()
        self._seen: set[str] = set()
        self._reason: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def add(self, name: str, value: bytes | None, *, retained: bool) -> None:
        """Note a message; a retained one counts only where nothing newer has come."""
        if retained and name in self._seen:
            return
        self._seen.add(name)
        self._arrived.append((name, value))
        if self.ended and len(self._arrived) > BEHIND_LIMIT:
            self.end(errors.ConnectionLost(f'A reader fell behind by {BEHIND_LIMIT} changes'))
        self._wake()

    def mark(self, topic: str) -> None:
        """Note that all that is retained has come, if it is our mark that has."""
        if topic == self.marker and not self.ended and self._end_at is None:
            self._end_at = len(self._arrived)
            if len(self._seen) > SAFE:
                LOGGER.warning(
                    '%d retained messages: the broker may have dropped some, if it queues less'
                    ' than it has above %d (max_queued_messages of Mosquitto)',
                    len(self._seen),
                    SAFE,
                )
            self._wake()

    def end(self, reason: Exception) -> None:
        """There will be no more."""
        self._reason = self._reason or reason
        self._wake()

    async def wait(self, limit_s: float | None, what: str) -> None:
        """Wait until there is something to take.

        Raises:
            ConnectionLost: The connection has ended, or nothing came in time.
            BindingRefused: The broker refuses our marker.
        """
        while not self._arrived and self._end_at is None:
            if self._reason is not None:
                if isinstance(self._reason, errors.BindingRefused):
                    raise self._reason
                raise errors.ConnectionLost(str(self._reason)) from self._reason
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(limit_s):
                    await self._waiter
            except TimeoutError:
                raise errors.ConnectionLost(
                    f'{what}: nothing comes for {limit_s:g} s, and not the end of what is stored;'
                    ' a broker whose queues are too short loses it'
                ) from None
            finally:
                self._waiter = None

    def take(self) -> tuple[list[Change], bool]:
        """Return what has come, up to the end of what was stored; and whether that is its end."""
        count = len(self._arrived) if self._end_at is None else self._end_at
        ended = self._end_at is not None
        self.ended, self._end_at = self.ended or ended, None
        return [self._arrived.popleft() for _ in range(count)], ended

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _mark(message: Message) -> Outgoing:
    return message.exchange, message.body, expiry_properties(None), False
