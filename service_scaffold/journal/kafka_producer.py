"""Appending to Kafka, with and without transactions."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from service_scaffold import errors
from service_scaffold.journal import base
from service_scaffold.journal.kafka_client import (
    OffsetAndMetadata,
    TopicPartition,
    bounded,
    discard_producer,
    kafka_errors,
    translate,
)
from service_scaffold.journal.kafka_member import KafkaMember
from service_scaffold.journal.kafka_protocol import MemberSender, Membership
from service_scaffold.journal.partitioner import partition_of

FEW = 16
"""Up to so many records go one by one, so that concurrent callers share the client's batches."""
ABORT_LIMIT_S = 0.7
MISSING_S = 1.0
MISSING_ANSWERS = 8
"""So often the broker must say, within so many seconds, that it does not know a topic."""

_LEADERLESS = (kafka_errors.NotLeaderForPartitionError, kafka_errors.LeaderNotAvailableError)

OnConfirm = Callable[[int], None] | None


class _Batch:
    """Records of one partition that go together."""

    __slots__ = ('builder', 'future', 'positions')

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.positions: list[int] = []
        self.future: asyncio.Future[Any] | None = None


class KafkaProducer(base.Producer):
    """Appends with a producer of the client's.

    Args:
        producer: A started producer, ours from now on.
        sender: Its sender, when it is transactional.
        timeout_s: How long a record may wait for its confirm, and each step of a transaction.
    """

    def __init__(self, producer: Any, sender: MemberSender | None, timeout_s: float) -> None:
        self._producer = producer
        self._sender = sender
        self._timeout_s = timeout_s
        self._turns = itertools.count()
        self._open = False
        self._closed = False

    # Appending

    async def produce(
        self,
        records: Sequence[base.NewRecord],
        on_confirm: OnConfirm = None,
        on_sent: Callable[[], None] | None = None,
    ) -> list[int | Exception]:
        """Append; `on_sent` is called when all records are on their way."""
        if self._closed:
            raise errors.ConnectionLost('The producer is closed')
        outcome: list[int | Exception] = [0] * len(records)
        try:
            if len(records) <= FEW:
                await self._send_singly(records, outcome, on_confirm, on_sent)
            else:
                await self._send_batches(records, outcome, on_confirm, on_sent)
        except kafka_errors.KafkaError as error:
            raise translate(error, 'publishing') from error
        return outcome

    async def _send_singly(
        self,
        records: Sequence[base.NewRecord],
        outcome: list[int | Exception],
        on_confirm: OnConfirm,
        on_sent: Callable[[], None] | None,
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
                futures[position] = _watch(future, 1, on_confirm)
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
        on_sent: Callable[[], None] | None,
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
            except kafka_errors.KafkaError as error:
                outcome[position] = self._refusal(error, topic)
                continue
            batch = filling.get((topic, partition))
            if batch is None or not _append(batch, record, position):
                if batch is not None:
                    await self._submit(batch, topic, partition, on_confirm)
                batch = filling[topic, partition] = _Batch(self._producer.create_batch())
                batches.append((topic, batch))
                _append(batch, record, position)
        for (topic, partition), batch in filling.items():
            await self._submit(batch, topic, partition, on_confirm)
        if on_sent is not None:
            on_sent()
        for topic, batch in batches:
            self._note(batch, await self._confirm(batch.future, topic), outcome)

    async def _submit(
        self, batch: _Batch, topic: str, partition: int, on_confirm: OnConfirm
    ) -> None:
        batch.builder.close()  # or a single `send` could add to it
        future = await self._producer.send_batch(batch.builder, topic, partition=partition)
        batch.future = _watch(future, len(batch.positions), on_confirm)

    def _note(self, batch: _Batch, confirmed: Any, outcome: list[int | Exception]) -> None:
        for index, position in enumerate(batch.positions):
            failed = isinstance(confirmed, Exception)
            outcome[position] = confirmed if failed else confirmed.offset + index

    async def _confirm(self, future: asyncio.Future[Any] | None, topic: str) -> Any:
        """Wait for a confirm; return what the client gives, or why this record was refused.

        Raises:
            ConnectionLost: There will be no confirm.
        """
        assert future is not None
        if not future.done():
            # Only a producer in a transaction would try for ever; the others end by themselves.
            limit_s = self._timeout_s if self._sender else 2 * self._timeout_s + 1
            await asyncio.wait({future}, timeout=limit_s)
        if not future.done() or future.cancelled():
            reason = 'the connection was closed' if future.done() else 'no confirm in time'
            raise errors.ConnectionLost(f'publishing to {topic}: {reason}')
        error = future.exception()
        return future.result() if error is None else self._refusal(error, topic)

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
        cluster = self._producer.client.cluster
        partitions = cluster.partitions_for_topic(topic)
        return len(partitions or await self._look_up(topic))

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
        if (partition := record.partition) is not None:
            if not 0 <= partition < count:
                raise kafka_errors.UnknownTopicOrPartitionError(f'partition {partition}')
            return partition
        key = record.key
        return next(self._turns) % count if key is None else partition_of(key, count)

    # Transactions

    async def begin(self) -> None:
        await self._step('beginning a transaction', self._producer.begin_transaction)
        self._open = True

    async def send_offsets(
        self, group: str, offsets: base.Offsets, member: base.Member | None = None
    ) -> None:
        if not offsets:
            return
        assert self._sender is not None, 'only a transactional producer commits offsets'
        self._sender.member = _fence(member, offsets)
        wanted = {
            TopicPartition(*where): OffsetAndMetadata(offset, '')
            for where, offset in offsets.items()
        }
        await self._step(
            'committing offsets in a transaction',
            lambda: self._producer.send_offsets_to_transaction(wanted, group),
        )

    async def commit(self) -> None:
        await self._step('committing a transaction', self._producer.commit_transaction)
        self._open = False

    async def abort(self) -> None:
        await self._step('aborting a transaction', self._producer.abort_transaction)
        self._open = False

    async def _step(self, action: str, step: Callable[[], Awaitable[None]]) -> None:
        if self._closed:
            raise errors.ConnectionLost(f'{action}: the producer is closed')
        manager = self._producer._txn_manager
        if manager is None or manager.transactional_id is None:
            raise errors.JournalError(f'{action}: the producer has no transactional id')
        self._raise_if_fenced(manager, action)
        try:
            async with bounded(action, self._timeout_s):
                await step()
        except errors.JournalError:
            self._raise_if_fenced(manager, action)
            raise
        except AssertionError as error:  # the client asserts the order of a transaction's steps
            self._raise_if_fenced(manager, action)
            raise errors.JournalError(f'{action}: {error}') from error
        finally:
            waiter = manager._transaction_waiter
            if waiter is not None and waiter.done() and not waiter.cancelled():
                waiter.exception()  # seen: a later abort makes a new one

    def _raise_if_fenced(self, manager: Any, action: str) -> None:
        """Tell fencing from what the client makes of it once its sender has ended."""
        if not manager.is_fatal_error():
            return
        error = manager._transaction_waiter and manager._transaction_waiter.exception()
        raise translate(error or kafka_errors.ProducerFenced(), action) from error

    async def close(self) -> None:
        if self._closed:
            return
        manager = self._producer._txn_manager
        if self._open and manager is not None and not manager.is_fatal_error():
            try:
                async with asyncio.timeout(ABORT_LIMIT_S):
                    await self.abort()
            except (errors.ScaffoldError, TimeoutError):
                pass  # the broker aborts it when its time is over
        self._closed = True
        await discard_producer(self._producer)


def _fence(member: base.Member | None, offsets: base.Offsets) -> Membership:
    """Return in whose name offsets are committed.

    Raises:
        GenerationEnded: The member has left, or the partitions are not its own any more.
    """
    if not isinstance(member, KafkaMember):
        return Membership()
    if member.generation < 0 or not member.assignment >= offsets.keys():
        raise errors.GenerationEnded('committing offsets in a transaction: they are not ours now')
    return member.membership


def _append(batch: _Batch, record: base.NewRecord, position: int) -> bool:
    appended = batch.builder.append(
        timestamp=record.timestamp, key=record.key, value=record.value, headers=list(record.headers)
    )
    if appended is None:
        return False
    batch.positions.append(position)
    return True


def _watch(future: asyncio.Future[Any], size: int, on_confirm: OnConfirm) -> asyncio.Future[Any]:
    """Report a confirm as it comes, and look at an error that nobody may wait for any more."""

    def done(future: asyncio.Future[Any]) -> None:
        if not future.cancelled() and future.exception() is None and on_confirm is not None:
            on_confirm(size)

    future.add_done_callback(done)
    return future
