"""The state part of the port on RabbitMQ: a stream with a record for each change.

A stream keeps every change for as long as it is told to, so what a reader would have to read
grows with the number of changes, not of values. So now and then a reader that had to read much
repeats all values at the stream's end, with the place up to which they are the latest, and notes
that place in a second stream: later readers begin there.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from service_scaffold import errors
from service_scaffold.transports.amqp_records import Mark, Parts, Record, RecordStream
from service_scaffold.transports.state import Change, check_changes

LOGGER = logging.getLogger(__name__)

REPEAT_AFTER = 20_000
"""Records after which values are repeated: as many are read in about a second."""
REPEAT_FACTOR = 2
"""So many records for each value at least, or repeating would cost more than it spares."""
CLOSE_LIMIT_S = 0.1
_PLACES_SEGMENT_BYTES = 1024 * 1024


class AmqpState:
    """See `State`.

    Args:
        parts: The connection.
        queue: The stream of changes; `{queue}.places` has the places from which to read.
        keep_s: How long changes are kept, at least.
        limit_s: How long a stream may be silent before its end is reached.

    Attributes:
        repeat_after: Records after which values are repeated.
        records_read: How many records the last snapshot was made from.
    """

    def __init__(self, parts: Parts, queue: str, keep_s: int, limit_s: float) -> None:
        self._changes = RecordStream(parts, queue, keep_s)
        self._places = RecordStream(parts, f'{queue}.places', keep_s, _PLACES_SEGMENT_BYTES)
        self._limit_s = limit_s
        self._repeating: asyncio.Task[None] | None = None
        self.repeat_after = REPEAT_AFTER
        self.records_read = 0

    async def put(self, key: str, value: bytes | None) -> None:
        """Store the value of `key`, None deletes it."""
        await self.put_many([(key, value)])

    async def put_many(self, changes: Sequence[Change]) -> None:
        """Store and delete, all on their way at once; returns when all is confirmed."""
        check_changes(changes)
        if changes:
            await self._changes.append(changes)

    async def snapshot_then_follow(self) -> AsyncGenerator[Change | None, None]:
        """Yield what is stored, then None once, then each change as it comes."""
        place = await self._place()
        snapshot = _Snapshot(place)
        patience = self._patience()
        async with aclosing(self._changes.read(place or 'first', self._limit_s)) as batches:
            async for batch in batches:
                if isinstance(batch, Mark):
                    self.records_read = snapshot.records
                    values = snapshot.end()
                    if self._is_due(snapshot.records, len(values)):
                        self._begin(self._repeat(values, batch))
                    for item in values.items():
                        yield item
                    del values
                    yield None
                elif not snapshot.ended:
                    snapshot.apply(batch)
                else:
                    patience -= len(batch)
                    if patience < 0:
                        patience = self._patience()
                        self._begin(self._look_again())
                    for record in changes_of(batch):
                        yield record.key, record.value

    async def close(self) -> None:
        """End what runs beside."""
        task = self._repeating
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=CLOSE_LIMIT_S)

    # Repeating

    async def _place(self) -> Mark | None:
        """Return the last place from which on all values are found."""
        found: Mark | None = None
        async with aclosing(self._places.read('first', self._limit_s)) as batches:
            async for batch in batches:
                if isinstance(batch, Mark):
                    break
                for record in batch:
                    if record.value is not None:
                        found = Mark(record.key, int(record.value))
        return found

    def _is_due(self, records: int, values: int) -> bool:
        """Tell whether it is time to repeat the values, after so many records."""
        return records >= max(self.repeat_after, REPEAT_FACTOR * values)

    async def _repeat(self, values: Mapping[str, bytes], end: Mark) -> None:
        """Append all values again; a failure costs nothing but time."""
        try:
            if values:
                await self._changes.append(values.items(), as_of=end.offset)
            await self._places.append([(end.key, b'%d' % end.offset)])
        except errors.EventError as error:
            LOGGER.debug('Values were not repeated: %s', error)
        else:
            LOGGER.info(
                '%s: %d values were repeated, for later readers', self._changes.queue, len(values)
            )

    def _patience(self) -> float:
        """Return after how many changes to look whether anybody has repeated the values lately.

        Not the same for all, so that the first to do it spares the others the work.
        """
        return self.repeat_after * random.uniform(2, 4)

    def _begin(self, repeating: Coroutine[Any, Any, None]) -> None:
        """Do it beside: neither the reader of a snapshot waits for it, nor who follows."""
        if self._repeating is None or self._repeating.done():
            self._repeating = asyncio.create_task(repeating, name='repeat values')
        else:
            repeating.close()

    async def _look_again(self) -> None:
        """Read everything for the sake of repeating it, unless somebody has done so lately."""
        try:
            place = await self._place()
            snapshot = _Snapshot(place)
            async with aclosing(self._changes.read(place or 'first', self._limit_s)) as batches:
                async for batch in batches:
                    if isinstance(batch, Mark):
                        values = snapshot.end()
                        if self._is_due(snapshot.records, len(values)):
                            await self._repeat(values, batch)
                        return
                    snapshot.apply(batch)
        except errors.EventError as error:
            LOGGER.debug('Values were not repeated: %s', error)


class _Snapshot:
    """What a reader has gathered.

    Args:
        place: Where the repeated values that count begin; others are passed over.
    """

    def __init__(self, place: Mark | None) -> None:
        self.values: dict[str, bytes] = {}
        self.records = 0
        self.ended = False
        self._as_of = None if place is None else place.offset
        self._changed: set[str] = set()

    def apply(self, batch: Sequence[Record]) -> None:
        """Take records in; a change counts more than a repeated value, whichever comes first."""
        self.records += len(batch)
        for key, value, _, as_of in batch:
            if '/' not in key:
                continue  # a marker
            if as_of is None:
                self._changed.add(key)
                if value is None:
                    self.values.pop(key, None)
                else:
                    self.values[key] = value
            elif as_of == self._as_of and key not in self._changed and value is not None:
                self.values[key] = value

    def end(self) -> dict[str, bytes]:
        """Return the values, and forget them."""
        self.ended = True
        values, self.values = self.values, {}
        self._changed.clear()
        return values


def changes_of(records: Iterable[Record]) -> Iterable[Record]:
    """Return the changes, without markers and repeated values."""
    return (record for record in records if record.as_of is None and '/' in record.key)
