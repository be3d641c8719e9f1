"""A journal in memory: Kafka's semantics in one process, without a disk."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Literal

from service_scaffold import errors
from service_scaffold.journal import base
from service_scaffold.journal.base import TopicPartition
from service_scaffold.journal.memory_broker import MemoryBroker
from service_scaffold.journal.memory_group import Group, Groups
from service_scaffold.journal.memory_log import Partition
from service_scaffold.journal.memory_member import MemoryMember
from service_scaffold.journal.memory_network import Connection
from service_scaffold.journal.memory_producer import MemoryProducer
from service_scaffold.journal.memory_reader import MemoryReader
from service_scaffold.journal.partitioner import Partitioner, partition_of

ANSWER_S = 5.0
"""Seconds after which an unanswered question means that the connection is lost."""


class MemoryJournal(base.Journal):
    """One connection to the logs of a broker in memory.

    Args:
        broker: From `memory_broker.find_broker`; the one of `memory://x` is shared with the event
            transports of that URL.
        who: Names the client, for `Network.drop_connections`.
        partitioner: Chooses partitions by keys.
    """

    def __init__(
        self,
        broker: MemoryBroker,
        who: str = 'journal',
        partitioner: Partitioner = partition_of,
    ) -> None:
        self.broker = broker
        self._partitioner = partitioner
        self._connection = Connection(broker.network, who, self._severed)
        self._lost: asyncio.Future[Exception] | None = None
        self._readers: list[MemoryReader] = []
        self._producers: list[MemoryProducer] = []

    @property
    def lost(self) -> asyncio.Future[Exception]:
        if self._lost is None:
            self._lost = asyncio.get_running_loop().create_future()
        return self._lost

    async def connect(self) -> None:
        _ = self.lost  # made while the event loop runs: a fault may come from anywhere
        await self._connection.open()

    async def close(self) -> None:
        for reader in self._readers:
            await reader.close()
        for producer in self._producers:
            await producer.close()
        self._connection.close()

    async def create(self, topics: Iterable[base.TopicSpec]) -> None:
        await self._connection.answer(ANSWER_S)
        for spec in topics:
            self.broker.topic(spec)

    async def delete(self, topics: Iterable[str]) -> None:
        await self._connection.answer(ANSWER_S)
        for name in topics:
            self.broker.delete_topic(name)

    async def partitions(self, topics: Iterable[str]) -> Mapping[str, int | None]:
        await self._connection.answer(ANSWER_S)
        found = {name: self.broker.topics.get(name) for name in topics}
        return {
            name: None if topic is None else len(topic.partitions) for name, topic in found.items()
        }

    async def topics(self, prefix: str = '') -> list[str]:
        await self._connection.answer(ANSWER_S)
        return sorted(name for name in self.broker.topics if name.startswith(prefix))

    async def members(self, group: str) -> list[str]:
        await self._connection.answer(ANSWER_S)
        return self._group(group).names

    async def forget(self, group: str) -> None:
        await self._connection.answer(ANSWER_S)
        self._group(group).forget()

    async def offsets(
        self, partitions: Iterable[TopicPartition], at: Literal['first', 'end'] | int
    ) -> Mapping[TopicPartition, int]:
        await self._connection.answer(ANSWER_S)
        return {where: _offset(self._log(where), at) for where in partitions}

    async def reader(self, *, isolation: base.Isolation = 'read_committed') -> MemoryReader:
        await self._connection.answer(ANSWER_S)
        reader = MemoryReader(self.broker, self._connection, isolation)
        self._keep(reader)
        return reader

    async def member(
        self,
        group: str,
        listener: base.RebalanceListener,
        *,
        isolation: base.Isolation = 'read_committed',
        max_pause_s: float = 300.0,
    ) -> MemoryMember:
        await self._connection.answer(ANSWER_S)
        member = MemoryMember(
            self.broker,
            self._connection,
            isolation,
            self._group(group),
            listener,
            max_pause_s=max_pause_s,
            timeout_s=ANSWER_S,
        )
        self._keep(member)
        return member

    async def producer(
        self, transactional_id: str | None = None, *, timeout_s: float = 5.0
    ) -> MemoryProducer:
        await self._connection.answer(timeout_s)
        producer = MemoryProducer(
            self.broker, self._connection, transactional_id, timeout_s, self._partitioner
        )
        self._producers = [other for other in self._producers if not other.closed]
        self._producers.append(producer)
        return producer

    def _group(self, name: str) -> Group:
        return self.broker.companion(Groups, Groups)[name]

    def _keep(self, reader: MemoryReader) -> None:
        self._readers = [other for other in self._readers if not other.closed]
        self._readers.append(reader)

    def _log(self, where: TopicPartition) -> Partition:
        topic = self.broker.topics.get(where.topic)
        if topic is None or not 0 <= where.partition < len(topic.partitions):
            raise errors.JournalError(f'There is no {where.topic}/{where.partition}')
        topic.tidy(self.broker.now_ms())
        return topic.partitions[where.partition]

    def _severed(self, reason: errors.ConnectionLost) -> None:
        for reader in self._readers:
            if isinstance(reader, MemoryMember):
                reader.sever()
        for producer in self._producers:
            producer.drop()
        loop = self._connection.loop
        if loop is not None and not loop.is_closed() and not self.lost.done():
            self.lost.set_result(reason)
        self.broker.wake()


def _offset(log: Partition, at: Literal['first', 'end'] | int) -> int:
    if at == 'first':
        return log.start
    if at == 'end':
        return log.stable
    return log.at_time(at)
