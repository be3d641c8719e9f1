"""The state part of the port on RabbitMQ: a stream with a record for each change.

A stream keeps everything, so a reader folds what it reads from the beginning. Where that is the
end of what is stored, a record of the reader's own tells (`marker`): the broker does not.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing

from service_scaffold import errors
from service_scaffold.message import Message
from service_scaffold.transports.amqp_client import Client
from service_scaffold.transports.amqp_properties import text_of
from service_scaffold.transports.amqp_publisher import Publisher
from service_scaffold.transports.amqp_stream import StreamReader
from service_scaffold.transports.amqp_topology import Topology
from service_scaffold.transports.amqp_wire import Received
from service_scaffold.transports.base import Progress
from service_scaffold.transports.headers import KEY
from service_scaffold.transports.state import Change, check_changes

Parts = Callable[[], tuple[Client, Topology, Publisher]]
"""Returns the parts of a connection that is up; raises ConnectionLost."""

SEGMENT_BYTES = 16 * 1024 * 1024
"""RabbitMQ drops what is too old by whole segments, and never the last one."""


class RecordStream:
    """A stream of keyed records, shared by all that know its name.

    Args:
        parts: The connection.
        queue: The stream's name.
        keep_s: How long records are kept, at least.
        segment_bytes: Size of its files.
    """

    def __init__(
        self, parts: Parts, queue: str, keep_s: int, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self.queue = queue
        self._parts = parts
        self._arguments = {
            'x-max-age': f'{keep_s}s',
            'x-stream-max-segment-size-bytes': segment_bytes,
        }
        self._declared = False
        self._declaring = asyncio.Lock()

    async def append(self, changes: Sequence[Change]) -> None:
        """Append records, in order, and wait for all confirms; see `State.put_many`."""
        await self._declare()
        _, _, publisher = self._parts()
        messages = [
            Message('', self.queue, b'' if value is None else value, key=key)
            for key, value in changes
        ]
        failed = await publisher.publish(messages, Progress(), mandatory=True)
        if not failed:
            return
        self._declared = False  # it may have been deleted: a next call will see
        position, error = min(failed.items())
        raise errors.PublishError(
            f'{len(failed)} of {len(changes)} records were not stored in {self.queue!r}, first'
            f' {changes[position][0]}: {error}',
            phase='confirm',
            failed=tuple(sorted(failed)),
        ) from error

    async def read(
        self, offset: str, limit_s: float
    ) -> AsyncGenerator[Sequence[Change] | None, None]:
        """Yield records from `offset` on in batches; None once, where the stream ended before.

        Raises:
            ConnectionLost: The connection, or the stream, has ended; or what is stored did not
                come to its end, and nothing came for `limit_s`.
        """
        await self._declare()
        client, _, _ = self._parts()
        reader = StreamReader(client, self.queue)
        marker = f'.{secrets.token_hex(8)}'  # no key: it has no slash
        try:
            await reader.open(offset)
            await self.append([(marker, None)])
            ended = False
            while True:
                batch = changes_of(await reader.fetch(None if ended else limit_s))
                if not ended and (marker, None) in batch:
                    ended = True
                    end = batch.index((marker, None))
                    yield batch[:end]
                    yield None
                    batch = batch[end + 1 :]
                if batch:
                    yield batch
        finally:
            reader.close()

    async def _declare(self) -> None:
        async with self._declaring:
            if not self._declared:
                _, topology, _ = self._parts()
                await topology.stream(self.queue, self._arguments)
                self._declared = True


class AmqpState:
    """See `State`.

    Args:
        stream: Where the records are.
        limit_s: How long the stream may be silent before its end is reached.
    """

    def __init__(self, stream: RecordStream, limit_s: float) -> None:
        self._stream = stream
        self._limit_s = limit_s

    async def put(self, key: str, value: bytes | None) -> None:
        """Store the value of `key`, None deletes it."""
        await self.put_many([(key, value)])

    async def put_many(self, changes: Sequence[Change]) -> None:
        """Store and delete, all on their way at once; returns when all is confirmed."""
        check_changes(changes)
        if changes:
            await self._stream.append(changes)

    async def snapshot_then_follow(self) -> AsyncGenerator[Change | None, None]:
        """Yield what is stored, then None once, then each change as it comes."""
        stored: dict[str, bytes] = {}
        ended = False
        async with aclosing(self._stream.read('first', self._limit_s)) as batches:
            async for batch in batches:
                if batch is None:
                    ended = True
                    for item in stored.items():
                        yield item
                    stored.clear()
                    yield None
                elif ended:
                    for change in values_of(batch):
                        yield change
                else:
                    fold(stored, values_of(batch))


def changes_of(received: Iterable[Received]) -> list[Change]:
    """Return the records of messages; those without a key are somebody else's."""
    changes: list[Change] = []
    for message in received:
        headers = message.header.properties.headers
        if headers and KEY in headers:
            changes.append((text_of(headers[KEY]), message.body or None))
    return changes


def values_of(records: Iterable[Change]) -> Iterable[Change]:
    """Return the records without the markers of readers."""
    return (record for record in records if '/' in record[0])


def fold(stored: dict[str, bytes], changes: Iterable[Change]) -> None:
    """Apply changes to what is stored."""
    for key, value in changes:
        if value is None:
            stored.pop(key, None)
        else:
            stored[key] = value
