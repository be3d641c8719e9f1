"""A Kafka producer, with and without transactions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from service_scaffold import errors
from service_scaffold.journal import base
from service_scaffold.journal.kafka_appender import Appender, OnConfirm, OnSent
from service_scaffold.journal.kafka_client import (
    OffsetAndMetadata,
    TopicPartition,
    bounded,
    kafka_errors,
    translate,
)
from service_scaffold.journal.kafka_internals import discard_producer, untrack
from service_scaffold.journal.kafka_member import KafkaMember
from service_scaffold.journal.kafka_sender import MemberSender, Membership
from service_scaffold.journal.kafka_topics import largest_of
from service_scaffold.journal.offsets import join_notes
from service_scaffold.journal.partitioner import Partitioner, partition_of

ABORT_LIMIT_S = 0.7


class KafkaProducer(base.Producer):
    """Appends with a producer of the client's.

    Args:
        producer: A started producer, ours from now on.
        sender: Its sender, when it is transactional.
        timeout_s: How long a record may wait for its confirm, and each step of a transaction.
        partitioner: Chooses partitions by keys.

    Attributes:
        closing: The end of it, once `close` was called.
    """

    def __init__(
        self,
        producer: Any,
        sender: MemberSender | None,
        timeout_s: float,
        partitioner: Partitioner = partition_of,
    ) -> None:
        self._producer = producer
        self._sender = sender
        self._timeout_s = timeout_s
        self._appender = Appender(producer, timeout_s, partitioner, endless=sender is not None)
        self._appending = 0
        self._forgettable: set[str] = set()
        self._open = False
        self._closed = False
        self.closing: asyncio.Future[None] | None = None

    async def produce(
        self,
        records: Sequence[base.NewRecord],
        on_confirm: OnConfirm = None,
        on_sent: OnSent = None,
    ) -> list[int | Exception]:
        """Append; `on_sent` is called when all records are on their way."""
        if self._closed:
            raise errors.ConnectionLost('The producer is closed')
        self._appending += 1
        try:
            return await self._appender.append(records, on_confirm, on_sent)
        finally:
            self._appending -= 1

    async def place(self, record: base.NewRecord) -> int:
        if self._closed:
            raise errors.ConnectionLost('The producer is closed')
        return await self._appender.place(record)

    async def largest(self, topic: str) -> int | None:
        async with bounded('asking for the largest record', self._timeout_s):
            return await largest_of(self._producer.client, topic)

    def forget(self, topics: Iterable[str]) -> None:
        self._forgettable.update(topics)
        if not self._appending:  # else a record that waits could not find its partition
            untrack(self._producer, self._forgettable)
            self._forgettable.clear()

    async def begin(self) -> None:
        await self._step('beginning a transaction', self._producer.begin_transaction)
        self._open = True

    async def send_offsets(
        self,
        group: str,
        offsets: base.Offsets,
        member: base.Member | None = None,
        notes: base.Notes = base.NO_NOTES,
    ) -> None:
        commits = join_notes(offsets, notes)
        if not commits:
            return
        assert self._sender is not None, 'only a transactional producer commits offsets'
        self._sender.member = _fence(member, offsets)
        wanted = {
            TopicPartition(*where): OffsetAndMetadata(*commit) for where, commit in commits.items()
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
        if self.closing is None:
            self.closing = asyncio.ensure_future(self._end())
        await asyncio.shield(self.closing)

    async def _end(self) -> None:
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
