"""Reading Kafka partitions as a member of a consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from service_scaffold.journal import base
from service_scaffold.journal.kafka_client import (
    ConsumerRebalanceListener,
    OffsetAndMetadata,
    TopicPartition,
    bounded,
    kafka_errors,
)
from service_scaffold.journal.kafka_internals import end_fetch, partition_state
from service_scaffold.journal.kafka_protocol import stable_offsets
from service_scaffold.journal.kafka_reader import Bounds, KafkaReader, Runs
from service_scaffold.journal.kafka_sender import Membership
from service_scaffold.journal.offsets import join_notes

COMMIT_LIMIT_S = 3.0
RETRY_S = 0.1


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
        self._subscribed = False
        self._open = asyncio.Event()
        self._failure: Exception | None = None

    @property
    def generation(self) -> int:
        generation: int = self._consumer._coordinator.generation
        return generation

    @property
    def membership(self) -> Membership:
        """What fences this member's commits inside a transaction."""
        return Membership(self.generation, self.member_id)

    @property
    def assignment(self) -> frozenset[base.TopicPartition]:
        return self._assignment

    @property
    def member_id(self) -> str:
        known: str = self._consumer._coordinator.member_id
        return known

    async def subscribe(self, topics: Iterable[str], member_id: str = '') -> None:
        if member_id:
            self._consumer._coordinator.member_id = member_id
        self._subscribed = True
        self._consumer.subscribe(list(topics), listener=_Listener(self))

    async def _fetch_slice(self, limit: int, timeout_s: float) -> Runs:
        try:
            # The client waits without limit while the group rebalances.
            async with asyncio.timeout(timeout_s + 0.05):
                if not self._open.is_set():
                    # Waiting is fetching too: a member that was thrown out because it did not
                    # fetch joins again only when it does.
                    end_fetch(self._consumer)
                    await self._open.wait()
                runs = await self._get(limit, timeout_s)
        except TimeoutError:
            runs = {}
        if self._failure is not None:
            raise self._failure
        return runs

    async def commit(self, offsets: base.Offsets, notes: base.Notes = base.NO_NOTES) -> None:
        commits = join_notes(offsets, notes)
        if not commits:
            return
        async with bounded(f'committing offsets of group {self._group}', self._commit_limit_s):
            await self._commit(
                {
                    TopicPartition(*where): OffsetAndMetadata(*commit)
                    for where, commit in commits.items()
                }
            )

    async def _commit(self, wanted: Mapping[TopicPartition, Any]) -> None:
        """Commit in this generation.

        The client's `commit` refuses partitions which are not assigned, and so the commit before
        joining that fixes where a new group begins. Its coordinator tries again in whatever
        generation there is by then; and in the name of nobody after the group has thrown us out,
        which the broker accepts when the group is empty: offsets would go back.
        """
        coordinator = self._consumer._coordinator
        generation = coordinator.generation
        while True:
            await coordinator.ensure_coordinator_known()
            async with coordinator._commit_lock:
                if coordinator.generation != generation or (self._subscribed and generation < 0):
                    raise kafka_errors.IllegalGenerationError(self._group)
                try:
                    await coordinator._do_commit_offsets(None, wanted)
                    return
                except kafka_errors.KafkaError as error:
                    if not error.retriable:
                        raise
            await asyncio.sleep(RETRY_S)

    async def prove(self) -> None:
        coordinator = self._consumer._coordinator
        generation = coordinator.generation
        async with bounded(f'asking group {self._group} for us', self._commit_limit_s):
            stands = generation >= 0 and await coordinator._do_heartbeat()
            if not stands or coordinator.generation != generation:
                raise kafka_errors.IllegalGenerationError(self._group)

    @property
    def _commit_limit_s(self) -> float:
        return min(self._timeout_s, COMMIT_LIMIT_S)

    async def committed(
        self, partitions: Iterable[base.TopicPartition]
    ) -> Mapping[base.TopicPartition, base.Commit | None]:
        wanted = list(partitions)
        if not wanted:
            return {}
        async with bounded(f'reading offsets of group {self._group}', self._timeout_s):
            found = await stable_offsets(self._consumer, self._group, wanted, self._timeout_s)
        return {where: found.get(TopicPartition(*where)) for where in wanted}

    # Called by the client; what is raised there would only be logged.

    async def revoke(self, partitions: Iterable[TopicPartition]) -> None:
        """Tell the listener what is about to leave."""
        self._open.clear()
        leaving = _frozen(partitions)
        try:
            if leaving:
                await self._listener.on_revoked(leaving)
        except Exception as error:  # noqa: BLE001 - raised by the next fetch
            self._failure = error
        self._assignment = frozenset()

    async def give(self, partitions: Iterable[TopicPartition]) -> None:
        """Position what has come, tell the listener, and read on."""
        assigned = list(partitions)
        self._assignment = _frozen(assigned)
        self._held.clear()
        try:
            # Whatever the client fetches before the positions are right is dropped while paused.
            self._consumer.pause(*assigned)
            await self._listener.on_assigning(self._assignment)
            await self._position(assigned)
            await self._listener.on_assigned(self._assignment)
        except Exception as error:  # noqa: BLE001 - raised by the next fetch
            self._failure = error
        self._consumer.resume(*self._owned(assigned))
        self._open.set()

    async def _position(self, assigned: Iterable[TopicPartition]) -> None:
        committed = await self.committed(_frozen(assigned))
        fresh = [where for where, commit in committed.items() if commit is None]
        first = await self._bounds(fresh, 'first') if fresh else {}
        for where, commit in committed.items():
            partition = TopicPartition(*where)
            if partition_state(self._consumer, partition) is not None:
                self._consumer.seek(partition, first[where] if commit is None else commit.offset)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    def __init__(self, member: KafkaMember) -> None:
        self._member = member

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._member.revoke(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._member.give(assigned)


def _frozen(partitions: Iterable[TopicPartition]) -> frozenset[base.TopicPartition]:
    return frozenset(base.TopicPartition(*partition) for partition in partitions)
