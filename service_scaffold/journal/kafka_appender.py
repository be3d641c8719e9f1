"""Appending records to Kafka, all on their way at once, each with its own outcome."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from service_scaffold import errors
from service_scaffold.journal import base
from service_scaffold.journal.kafka_client import bounded, kafka_errors, translate
from service_scaffold.journal.kafka_internals import track
from service_scaffold.journal.kafka_splitting import Parted
from service_scaffold.journal.partitioner import Partitioner

FEW = 16
"""Up to so many records go one by one, so that concurrent callers share the client's batches."""
MISSING_S = 1.0
MISSING_ANSWERS = 8
"""So often the broker must say, within so many seconds, that it does not know a topic."""

_LEADERLESS = (kafka_errors.NotLeaderForPartitionError, kafka_errors.LeaderNotAvailableError)

OnConfirm = Callable[[Sequence[int]], None] | None
OnSent = Callable[[], None] | None


class _Batch:
    """Records of one partition that go together."""

    __slots__ = ('builder', 'future', 'positions')

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.positions: list[int] = []
        self.future: asyncio.Future[Any] | None = None


class Appender:
    """Appends records with a producer of the client's.

    Args:
        producer: A started producer.
        timeout_s: The producer's own limit.
        partitioner: Chooses partitions by keys.
        endless: Whether the producer ignores that limit, as one with transactions does.
    """

    def __init__(
        self, producer: Any, timeout_s: float, partitioner: Partitioner, *, endless: bool
    ) -> None:
        self._producer = producer
        self._timeout_s = timeout_s
        self._choose = partitioner
        self._endless = endless
        self._turns = itertools.count()

    async def append(
        self, records: Sequence[base.NewRecord], on_confirm: OnConfirm, on_sent: OnSent
    ) -> list[int | Exception]:
        """Append; return an offset or a refusal for each record.

        Args:
            on_confirm: Called with the positions of the records that a confirm is for.
            on_sent: Called when all records are on their way.

        Raises:
            ConnectionLost: There will be no confirm for some of them.
            Fenced: A newer producer has the transactional id.
        """
        outcome: list[int | Exception] = [0] * len(records)
        try:
            if len(records) <= FEW and not any(map(_is_void, records)):
                await self._send_singly(records, outcome, on_confirm, on_sent)
            else:
                await self._send_batches(records, outcome, on_confirm, on_sent)
        except kafka_errors.KafkaError as error:
            raise translate(error, 'publishing') from error
        return outcome

    async def place(self, record: base.NewRecord) -> int:
        """Return the partition that a record goes to.

        Raises:
            BindingRefused: The topic does not exist.
            ConnectionLost: The broker did not answer in time.
        """
        if record.partition is not None:
            return record.partition
        try:
            return self._partition(record, await self._count(record.topic))
        except kafka_errors.KafkaError as error:
            raise translate(error, f'publishing to {record.topic}') from error

    async def _send_singly(
        self,
        records: Sequence[base.NewRecord],
        outcome: list[int | Exception],
        on_confirm: OnConfirm,
        on_sent: OnSent,
    ) -> None:
        futures: dict[int, asyncio.Future[Any]] = {}
        for position, record in enumerate(records):
            try:
                partition = self._partition(record, await self._count(record.topic))
                future = await self._producer.send(
                    record.topic,
                    record.value,
                    record.key,
                    partition,
                    record.timestamp,
                    list(record.headers),  # the client takes nothing else
                )
                futures[position] = _watch(future, (position,), on_confirm)
            except errors.PublishError as error:
                outcome[position] = error
            except kafka_errors.KafkaError as error:
                outcome[position] = self._refusal(error, record.topic)
        if on_sent is not None:
            on_sent()
        for position, future in futures.items():
            confirmed = await self._confirm(future, records[position].topic)
            failed = isinstance(confirmed, Exception)
            outcome[position] = confirmed if failed else confirmed.offset

    async def _send_batches(
        self,
        records: Sequence[base.NewRecord],
        outcome: list[int | Exception],
        on_confirm: OnConfirm,
        on_sent: OnSent,
    ) -> None:
        batches: list[tuple[str, _Batch]] = []
        counts: dict[str, int | Exception] = {}
        filling: dict[tuple[str, int], _Batch] = {}
        for position, record in enumerate(records):
            topic = record.topic
            count = counts.get(topic)
            if count is None:
                count = counts[topic] = await self._count_or_refusal(topic)
            if isinstance(count, Exception):
                outcome[position] = count
                continue
            try:
                partition = self._partition(record, count)
            except errors.PublishError as error:
                outcome[position] = error
                continue
            batch = filling.get((topic, partition))
            if batch is None or not _append(batch, record, position):
                if batch is not None:
                    await self._submit(batch, topic, partition, on_confirm)
                batch = filling[topic, partition] = _Batch(self._producer.create_batch())
                _append(batch, record, position)
                if batch.builder.size() > self._producer._max_request_size:
                    # The client sends it all the same, and the broker may end the connection.
                    del filling[topic, partition]
                    outcome[position] = self._refusal(
                        kafka_errors.MessageSizeTooLargeError(), topic
                    )
                    continue
                batches.append((topic, batch))
        for (topic, partition), batch in filling.items():
            await self._submit(batch, topic, partition, on_confirm)
        if on_sent is not None:
            on_sent()
        for topic, batch in batches:
            self._note(batch, await self._confirm(batch.future, topic), topic, outcome)

    async def _submit(
        self, batch: _Batch, topic: str, partition: int, on_confirm: OnConfirm
    ) -> None:
        batch.builder.close()  # or a single `send` could add to it
        future = await self._producer.send_batch(batch.builder, topic, partition=partition)
        batch.future = _watch(future, batch.positions, on_confirm)

    def _note(
        self, batch: _Batch, confirmed: Any, topic: str, outcome: list[int | Exception]
    ) -> None:
        if isinstance(confirmed, Parted):
            for position, each in zip(batch.positions, confirmed.outcomes, strict=True):
                outcome[position] = each if isinstance(each, int) else self._refusal(each, topic)
            return
        for index, position in enumerate(batch.positions):
            failed = isinstance(confirmed, Exception)
            outcome[position] = confirmed if failed else confirmed.offset + index

    async def _confirm(self, future: asyncio.Future[Any] | None, topic: str) -> Any:
        """Wait for a confirm; return what the client gives, or why this record was refused.

        Of a batch that was split it returns `Parted`.

        Raises:
            ConnectionLost: There will be no confirm.
        """
        assert future is not None
        if not future.done():
            # Only a producer in a transaction would try for ever; the others end by themselves.
            limit_s = self._timeout_s if self._endless else 2 * self._timeout_s + 1
            await asyncio.wait({future}, timeout=limit_s)
        if not future.done() or future.cancelled():
            reason = 'the connection was closed' if future.done() else 'no confirm in time'
            raise errors.ConnectionLost(f'publishing to {topic}: {reason}')
        error = future.exception()
        if error is None or isinstance(error, Parted):
            return error or future.result()
        return self._refusal(error, topic)

    def _refusal(self, error: BaseException, topic: str) -> Exception:
        """Return why the broker refused a record.

        Raises:
            ConnectionLost, Fenced: Nothing that comes after will be better off.
        """
        leaderless = isinstance(error, _LEADERLESS)
        if leaderless and self._producer.client.cluster.partitions_for_topic(topic) is None:
            # Deleted in the meantime: the client only says that it has no leader.
            error = kafka_errors.UnknownTopicOrPartitionError(topic)
        refused = translate(error, f'publishing to {topic}')
        if isinstance(refused, errors.ConnectionLost | errors.Fenced):
            raise refused from error
        if isinstance(refused, errors.JournalError):
            return errors.PublishError(str(refused), phase='confirm')
        return refused

    async def _count_or_refusal(self, topic: str) -> int | Exception:
        try:
            return await self._count(topic)
        except kafka_errors.KafkaError as error:
            return self._refusal(error, topic)

    async def _count(self, topic: str) -> int:
        """Return how many partitions a topic has; asks the broker the first time."""
        partitions = self._producer.client.cluster.partitions_for_topic(topic)
        if not partitions:
            return len(await self._look_up(topic))
        track(self._producer, topic)
        return len(partitions)

    async def _look_up(self, topic: str) -> set[int]:
        """Not the client's own way, which takes an outage for a topic that does not exist."""
        client = self._producer.client
        client.add_topic(topic)
        answers = 0
        async with bounded(f'publishing to {topic}', self._timeout_s):
            while answers < MISSING_ANSWERS:
                answers += bool(await client.force_metadata_update())
                partitions: set[int] | None = client.cluster.partitions_for_topic(topic)
                if partitions:
                    return partitions
                if topic in client.cluster.unauthorized_topics:
                    raise kafka_errors.TopicAuthorizationFailedError(topic)
                await asyncio.sleep(MISSING_S / MISSING_ANSWERS)
        raise kafka_errors.UnknownTopicOrPartitionError(topic)

    def _partition(self, record: base.NewRecord, count: int) -> int:
        partition, key = record.partition, record.key
        if partition is None and count == 1:
            # Not asked for: it remembers keys, and those of answers do not come again.
            partition = 0
        elif partition is None:
            partition = next(self._turns) % count if key is None else self._choose(key, count)
        if not 0 <= partition < count:
            raise errors.PublishError(
                f'Topic {record.topic} has no partition {partition}',
                phase='confirm',
                maybe_sent=False,
            )
        return partition


def _is_void(record: base.NewRecord) -> bool:
    """Tell whether there is neither key nor value, which the client sends in batches only."""
    return record.value is None and record.key is None


def _append(batch: _Batch, record: base.NewRecord, position: int) -> bool:
    appended = batch.builder.append(
        timestamp=record.timestamp, key=record.key, value=record.value, headers=list(record.headers)
    )
    if appended is None:
        return False
    batch.positions.append(position)
    return True


def _watch(
    future: asyncio.Future[Any], positions: Sequence[int], on_confirm: OnConfirm
) -> asyncio.Future[Any]:
    """Report a confirm as it comes, and look at an error that nobody may wait for any more."""

    def done(future: asyncio.Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or on_confirm is None:
            return
        if error is None:
            on_confirm(positions)
        elif isinstance(error, Parted):
            outcomes = zip(positions, error.outcomes, strict=True)
            on_confirm([position for position, each in outcomes if isinstance(each, int)])

    future.add_done_callback(done)
    return future
