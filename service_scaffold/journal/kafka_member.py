"""Reading Kafka partitions as a member of a consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from service_scaffold import errors
from service_scaffold.journal import base
from service_scaffold.journal.kafka_client import (
    ConsumerRebalanceListener,
    OffsetAndMetadata,
    TopicPartition,
    bounded,
    kafka_errors,
)
from service_scaffold.journal.kafka_internals import partition_state
from service_scaffold.journal.kafka_protocol import stable_offsets
from service_scaffold.journal.kafka_reader import Bounds, KafkaReader, Runs
from service_scaffold.journal.kafka_sender import Membership

COMMIT_LIMIT_S = 3.0


class KafkaMember(KafkaReader, base.Member):
    """One member of a group.

    Nothing is read from when partitions are about to leave until the listener has been told what
    has come: the client itself would read on meanwhile.
    """

    def __init__(
        self,
        consumer: Any,
        group: str,
        listener: base.RebalanceListener,
        lost: asyncio.Future[Exception],
        bounds: Bounds,
        timeout_s: float,
    ) -> None:
        super().__init__(consumer, lost, bounds, timeout_s)
        self._group = group
        self._listener = listener
        self._assignment: frozenset[base.TopicPartition] = frozenset()
        self._open = asyncio.Event()
        self._paused: set[TopicPartition] = set()
        self._failure: Exception | None = None

    @property
    def generation(self) -> int:
        generation: int = self._consumer._coordinator.generation
        return generation

    @property
    def membership(self) -> Membership:
        """What fences this member's commits inside a transaction."""
        return Membership(self.generation, self._consumer._coordinator.member_id)

    @property
    def assignment(self) -> frozenset[base.TopicPartition]:
        return self._assignment

    async def subscribe(self, topics: Iterable[str], member_id: str = '') -> None:
        """Join; `member_id` is that of an earlier connection of ours, if there was one.

        The group would wait for that member until its session ends.
        """
        if member_id:
            self._consumer._coordinator.member_id = member_id
        self._consumer.subscribe(list(topics), listener=_Listener(self))

    async def _fetch_slice(self, limit: int, timeout_s: float) -> Runs:
        try:
            # The client waits without limit while the group rebalances.
            async with asyncio.timeout(timeout_s + 0.05):
                await self._open.wait()
                runs = await self._get(limit, timeout_s)
        except TimeoutError:
            runs = {}
        if self._failure is not None:
            raise self._failure
        return runs

    async def commit(self, offsets: base.Offsets) -> None:
        if not offsets:
            return
        wanted = {
            TopicPartition(*where): OffsetAndMetadata(offset, '')
            for where, offset in offsets.items()
        }
        coordinator = self._consumer._coordinator
        async with bounded(f'committing offsets of group {self._group}', self._commit_limit_s):
            # Not `consumer.commit`: that refuses partitions which are not assigned, and so the
            # commit before joining that fixes where a new group begins.
            await coordinator.commit_offsets(None, wanted)

    @property
    def _commit_limit_s(self) -> float:
        return min(self._timeout_s, COMMIT_LIMIT_S)

    async def committed(
        self, partitions: Iterable[base.TopicPartition]
    ) -> Mapping[base.TopicPartition, int | None]:
        wanted = list(partitions)
        if not wanted:
            return {}
        async with bounded(f'reading offsets of group {self._group}', self._timeout_s):
            found = await stable_offsets(self._consumer, self._group, wanted)
        return {where: found.get(TopicPartition(*where)) for where in wanted}

    def pause(self, partitions: Iterable[base.TopicPartition]) -> None:
        wanted = self._owned(partitions)
        self._paused.update(wanted)
        self._consumer.pause(*wanted)

    def resume(self, partitions: Iterable[base.TopicPartition]) -> None:
        wanted = self._owned(partitions)
        self._paused.difference_update(wanted)
        if self._open.is_set():
            self._consumer.resume(*wanted)

    # Called by the client; what is raised there would only be logged.

    async def revoke(self, partitions: Iterable[TopicPartition]) -> None:
        """Tell the listener what is about to leave."""
        self._open.clear()
        try:
            await self._listener.on_revoked(_frozen(partitions))
        except (errors.ScaffoldError, kafka_errors.KafkaError) as error:
            self._failure = error

    async def give(self, partitions: Iterable[TopicPartition]) -> None:
        """Position what has come, tell the listener, and read on."""
        assigned = list(partitions)
        self._assignment = _frozen(assigned)
        self._paused = set()
        try:
            # Whatever the client fetches before the positions are right is dropped while paused.
            self._consumer.pause(*assigned)
            await self._position(assigned)
            await self._listener.on_assigned(self._assignment)
        except (errors.ScaffoldError, kafka_errors.KafkaError) as error:
            self._failure = error
        self._consumer.resume(*self._owned(set(assigned) - self._paused))
        self._open.set()

    async def _position(self, assigned: Iterable[TopicPartition]) -> None:
        committed = await self.committed(_frozen(assigned))
        fresh = [where for where, offset in committed.items() if offset is None]
        first = await self._bounds(fresh, 'first') if fresh else {}
        for where, offset in committed.items():
            partition = TopicPartition(*where)
            if partition_state(self._consumer, partition) is not None:
                self._consumer.seek(partition, first[where] if offset is None else offset)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    def __init__(self, member: KafkaMember) -> None:
        self._member = member

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._member.revoke(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._member.give(assigned)


def _frozen(partitions: Iterable[TopicPartition]) -> frozenset[base.TopicPartition]:
    return frozenset(base.TopicPartition(*partition) for partition in partitions)
