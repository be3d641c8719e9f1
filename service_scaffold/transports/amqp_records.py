"""Streams of keyed records: appended with confirms, read to where they ended and on.

Where a stream ends the broker does not tell. So a reader appends a record of its own, a marker,
and has read what was stored when that comes back.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import NamedTuple

from service_scaffold import errors
from service_scaffold.message import Message
from service_scaffold.transports.amqp_client import Client
from service_scaffold.transports.amqp_properties import text_of
from service_scaffold.transports.amqp_publisher import Publisher
from service_scaffold.transports.amqp_stream import OFFSET, StreamReader
from service_scaffold.transports.amqp_topology import Topology
from service_scaffold.transports.amqp_wire import Received
from service_scaffold.transports.base import Progress
from service_scaffold.transports.headers import KEY
from service_scaffold.transports.state import Change

Parts = Callable[[], tuple[Client, Topology, Publisher]]
"""Returns the parts of a connection that is up; raises ConnectionLost."""

SEGMENT_BYTES = 16 * 1024 * 1024
"""RabbitMQ drops what is too old by whole segments, and never the last one."""
AS_OF = 'x-as-of'
"""Header of a record that repeats a value: the place up to which it is the latest."""


class Record(NamedTuple):
    """One record of a stream.

    Attributes:
        value: None: deleted, or a marker, whose key no other record has.
        offset: Its place in the stream.
        as_of: It is no change: it repeats what was the latest value at this place.
    """

    key: str
    value: bytes | None
    offset: int
    as_of: int | None = None


class Mark(NamedTuple):
    """A reader's marker: where the stream ended when the reader began."""

    key: str
    offset: int


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

    async def append(self, changes: Iterable[Change], as_of: int | None = None) -> None:
        """Append records, in order, and wait for all confirms; see `State.put_many`."""
        await self._declare()
        _, _, publisher = self._parts()
        headers = None if as_of is None else {AS_OF: str(as_of)}
        messages = [
            Message('', self.queue, b'' if value is None else value, key=key, headers=headers)
            for key, value in changes
        ]
        failed = await publisher.publish(messages, Progress(), mandatory=True)
        if not failed:
            return
        self._declared = False  # it may have been deleted: a next call will see
        position, error = min(failed.items())
        raise errors.PublishError(
            f'{len(failed)} of {len(messages)} records were not stored in {self.queue!r}, first'
            f' {messages[position].key}: {error}',
            phase='confirm',
            failed=tuple(sorted(failed)),
        ) from error

    async def read(
        self, start: str | Mark, limit_s: float
    ) -> AsyncGenerator[Sequence[Record] | Mark, None]:
        """Yield records in batches; our mark, once, where the stream ended before.

        Args:
            start: `first`: the oldest that is kept; an interval as `20s`: what is not older, or
                a little more; a mark: from there on, or all if the stream has it no longer.
            limit_s: How long the stream may be silent before our mark comes.

        Raises:
            ConnectionLost: The connection, or the stream, has ended; or our mark did not come.
        """
        await self._declare()
        key = f'.{secrets.token_hex(8)}'  # no key of the state: it has no slash
        reader, batch = await self._begin(start, limit_s)
        ended = False
        try:
            await self.append([(key, None)])
            while True:
                end = None if ended else next((r for r in batch if r.key == key), None)
                if end is not None:
                    ended = True
                    at = batch.index(end)
                    yield batch[:at]
                    yield Mark(key, end.offset)
                    batch = batch[at + 1 :]
                if batch:
                    yield batch
                batch = records_of(await reader.fetch(None if ended else limit_s))
        finally:
            reader.close()

    async def _begin(self, start: str | Mark, limit_s: float) -> tuple[StreamReader, list[Record]]:
        """Open a reader; return it with what was read already."""
        client, _, _ = self._parts()
        if isinstance(start, Mark):
            reader = StreamReader(client, self.queue)
            try:
                await reader.open(start.offset)
                # At an offset that it does not have yet, the broker waits for it.
                batch = records_of(await reader.fetch(limit_s))
                if batch and (batch[0].key, batch[0].offset) == start:
                    return reader, batch
            except errors.ConnectionLost:
                self._parts()  # raises, unless it was the stream only
            except BaseException:
                reader.close()
                raise
            reader.close()
        reader = StreamReader(client, self.queue)
        try:
            await reader.open('first' if isinstance(start, Mark) else start)
        except BaseException:
            reader.close()
            raise
        return reader, []

    async def _declare(self) -> None:
        async with self._declaring:
            if not self._declared:
                _, topology, _ = self._parts()
                await topology.stream(self.queue, self._arguments)
                self._declared = True


def records_of(received: Iterable[Received]) -> list[Record]:
    """Return the records of messages; those without a key are somebody else's."""
    records: list[Record] = []
    for message in received:
        headers = message.header.properties.headers
        if headers and KEY in headers:
            as_of = headers.get(AS_OF)
            records.append(
                Record(
                    text_of(headers[KEY]),
                    message.body or None,
                    int(str(headers.get(OFFSET, -1))),
                    None if as_of is None else int(text_of(as_of)),
                )
            )
    return records
