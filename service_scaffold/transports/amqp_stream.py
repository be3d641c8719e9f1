"""RabbitMQ's streams: queues that keep what was read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from service_scaffold import errors
from service_scaffold.transports.amqp_client import Client
from service_scaffold.transports.amqp_intake import never
from service_scaffold.transports.amqp_wire import Channel, Received, Refused

PREFETCH = 2000
"""How many messages the broker sends ahead; acknowledging is what asks for more."""

OFFSET = 'x-stream-offset'
"""Where to begin, and a header of each message: its place."""
_RETRY_S = 0.002


class StreamReader:
    """Reads one stream on a channel of its own.

    Args:
        queue: The stream's name.
    """

    def __init__(self, client: Client, queue: str) -> None:
        self._client = client
        self._queue = queue
        self._channel: Channel | None = None
        self._arrived: deque[Received] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._deleted = False

    async def open(self, offset: str | int) -> None:
        """Begin to read.

        Args:
            offset: `first`: the oldest that is kept; an interval as `20s`: what is not older, or
                a little more; the offset of a record. Of one that was dropped the broker makes
                the oldest that it has, and for one that is not there yet it waits.

        Raises:
            BindingRefused: The broker refuses it.
            AccessRefused: The credentials do not allow it.
            ConnectionLost: The connection has ended.
        """
        channel = self._channel = await self._client.channel()
        channel.on_delivery = self._take
        channel.on_consumer_cancel_callbacks.add(self._on_cancel)
        channel.closing.add_done_callback(self._wake)
        self._client.ended.add_done_callback(self._wake)
        arguments: dict[str, Any] = {OFFSET: offset}
        try:
            await self._client.call(channel.basic_qos(prefetch_count=PREFETCH))
            await self._client.call(
                channel.basic_consume(self._queue, never, no_ack=False, arguments=arguments)
            )
        except Refused as refused:
            kind = errors.AccessRefused if refused.code == 403 else errors.BindingRefused
            raise kind(
                f'The broker refuses a reader of stream {self._queue!r}: {refused.text}'
            ) from refused

    async def fetch(self, timeout_s: float | None = None) -> Sequence[Received]:
        """Wait for messages and return all that are there, oldest first.

        Raises:
            ConnectionLost: The connection, or the stream, has ended; or nothing came within
                `timeout_s`.
        """
        while not self._arrived:
            self._check()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._waiter
            except TimeoutError:
                raise errors.ConnectionLost(
                    f'Stream {self._queue!r} gives nothing more for {timeout_s:g} s, and not its'
                    ' end either'
                ) from None
            finally:
                self._waiter = None
        found = list(self._arrived)
        self._arrived.clear()
        self._ask_for_more(found[-1].delivery_tag or 0)
        return found

    def close(self) -> None:
        """End reading. Idempotent."""
        self._client.ended.remove_done_callback(self._wake)
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.on_delivery = None
            channel.closing.remove_done_callback(self._wake)
            self._client.discard(channel)

    def _take(self, received: Received) -> None:
        self._arrived.append(received)
        self._wake()

    def _ask_for_more(self, tag: int) -> None:
        channel = self._channel
        if channel is None or channel.is_closed:
            return
        if channel.writable:
            channel.write(channel.acks(tag, (), ()))
        else:
            asyncio.get_running_loop().call_later(_RETRY_S, self._ask_for_more, tag)

    def _check(self) -> None:
        if self._client.ended.done():
            raise self._client.reason()
        channel = self._channel
        if channel is None or self._deleted or channel.is_closed:
            why = 'it was deleted, or has moved' if self._deleted else 'its channel was closed'
            raise errors.ConnectionLost(f'Stream {self._queue!r} is read no longer: {why}')

    def _on_cancel(self, _: object) -> None:
        self._deleted = True
        self._wake()

    def _wake(self, _: object = None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
