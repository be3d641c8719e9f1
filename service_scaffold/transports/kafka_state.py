"""The state part of the port on Kafka: a compacted topic.

A record's partition is chosen by its group, so that what belongs together keeps one order. The
snapshot is what stands before the ends that the partitions have when it begins.
"""

from __future__ import annotations

import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing

from service_scaffold import errors
from service_scaffold.journal.base import NewRecord, Record, TopicPartition, TopicSpec
from service_scaffold.journal.kafka import KafkaJournal
from service_scaffold.journal.kafka_producer import KafkaProducer
from service_scaffold.journal.kafka_reader import KafkaReader
from service_scaffold.journal.partitioner import partition_of
from service_scaffold.transports.state import Change, check_changes, folded, group_of

STATE_CONFIG = {
    'cleanup.policy': 'compact',
    # Only closed segments are compacted: with the defaults a reader could meet a gigabyte of
    # old values before the new ones.
    'segment.bytes': str(32 * 1024 * 1024),
    'min.cleanable.dirty.ratio': '0.2',
}
FETCH = 5000
WAIT_S = 1.0

Declare = Callable[[TopicSpec], Awaitable[Exception | None]]
"""Makes sure that a topic exists; returns why it cannot be used."""
OpenProducer = Callable[[], Awaitable[KafkaProducer]]


class RecordTopic:
    """A compacted topic of keyed records.

    Args:
        journal: The connection.
        spec: The topic.
        declare: Makes sure that it exists.
        forget: Has it declared again, when it is next needed.
        producer: Gives the connection's producer.
        limit_s: How long the end of what is stored may be awaited without a record.
    """

    def __init__(
        self,
        journal: KafkaJournal,
        spec: TopicSpec,
        declare: Declare,
        forget: Callable[[str], None],
        producer: OpenProducer,
        limit_s: float,
    ) -> None:
        self.name = spec.name
        self._journal = journal
        self._spec = spec
        self._declare = declare
        self._forget = forget
        self._producer = producer
        self._limit_s = limit_s
        self._partitions = 0

    async def partitions(self) -> int:
        """Return how many partitions the topic has; it is made if it is missing.

        The number is asked for once a connection: it must not change, since a group's order
        would end with it.
        """
        if not self._partitions:
            refused = await self._declare(self._spec)
            if refused is not None:
                raise refused
            self._partitions = (await self._journal.partitions([self.name]))[self.name] or 0
        if not self._partitions:
            raise errors.BindingRefused(f'Topic {self.name} is missing')
        return self._partitions

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append records and wait for all confirms; see `State.put_many`."""
        try:
            outcome = await (await self._producer()).produce(records)
        except errors.JournalError as error:
            raise errors.PublishError(str(error), phase='confirm') from error
        failed = {p: e for p, e in enumerate(outcome) if isinstance(e, Exception)}
        if failed:
            self._partitions = 0  # the topic may have been deleted: a next call will see
            self._forget(self.name)
            first = failed[min(failed)]
            raise errors.PublishError(
                f'{len(failed)} of {len(records)} records were not stored in {self.name}: {first}',
                phase='confirm',
                failed=tuple(failed),
            ) from first

    async def read(self) -> AsyncGenerator[Sequence[Record] | None, None]:
        """Yield all records in batches; None once, where the topic ended before.

        Raises:
            ConnectionLost: The connection has ended, or the topic's end was not reached.
        """
        where = [TopicPartition(self.name, n) for n in range(await self.partitions())]
        try:
            ends = await self._journal.offsets(where, 'end')
            first = await self._journal.offsets(where, 'first')
            reader = await self._journal.reader()
        except errors.JournalError as error:
            raise errors.ConnectionLost(f'{self.name} cannot be read: {error}') from error
        try:
            await reader.assign(first)
            async with aclosing(self._batches(reader, ends)) as batches:
                async for batch in batches:
                    yield batch
        except (errors.OffsetsLost, errors.JournalError) as error:
            raise errors.ConnectionLost(f'{self.name} is read no longer: {error}') from error
        finally:
            await reader.close()

    async def _batches(
        self, reader: KafkaReader, ends: Mapping[TopicPartition, int]
    ) -> AsyncGenerator[Sequence[Record] | None, None]:
        ended = False
        heard = time.monotonic()
        while True:
            if not ended and all(reader.position(place) >= end for place, end in ends.items()):
                ended = True
                yield None
            records = await reader.fetch(FETCH, WAIT_S)
            if records:
                heard = time.monotonic()
                yield records
            elif not ended and time.monotonic() - heard > self._limit_s:
                raise errors.ConnectionLost(
                    f'{self.name} gives nothing more for {self._limit_s:g} s, and not its end'
                )


class KafkaState:
    """See `State`."""

    def __init__(self, topic: RecordTopic) -> None:
        self._topic = topic

    async def put(self, key: str, value: bytes | None) -> None:
        """Store the value of `key`, None deletes it."""
        await self.put_many([(key, value)])

    async def put_many(self, changes: Sequence[Change]) -> None:
        """Store and delete, all on their way at once; returns when all is confirmed."""
        check_changes(changes)
        if not changes:
            return
        name, count = self._topic.name, await self._topic.partitions()
        await self._topic.append(
            [
                NewRecord(name, value, key.encode(), (), partition_of(group_of(key), count))
                for key, value in changes
            ]
        )

    def snapshot_then_follow(self) -> AsyncGenerator[Change | None, None]:
        """Yield what is stored, then None once, then each change as it comes."""
        return folded(self._topic.read(), _changes_of)


def _changes_of(records: Iterable[Record]) -> Iterator[Change]:
    for record in records:
        key = '' if record.key is None else record.key.decode('utf-8', 'replace')
        if '/' in key:  # else it is not ours
            yield key, record.value
