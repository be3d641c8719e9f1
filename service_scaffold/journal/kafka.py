"""Kafka as a journal.

One control connection answers questions and feels the pulse: the client's own consumers and
producers never say that a broker has gone. Every reader, member and producer has its own client.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

from service_scaffold import errors
from service_scaffold.journal import base
from service_scaffold.journal.kafka_client import (
    Access,
    ControlClient,
    TopicPartition,
    bounded,
    explain_refusal,
    kafka_errors,
    make_client,
    make_consumer,
    make_producer,
    metadata,
    quieten,
)
from service_scaffold.journal.kafka_groups import forget_group, group_members
from service_scaffold.journal.kafka_internals import discard_consumer, discard_producer
from service_scaffold.journal.kafka_member import KafkaMember
from service_scaffold.journal.kafka_producer import KafkaProducer
from service_scaffold.journal.kafka_reader import KafkaReader, start_consumer
from service_scaffold.journal.kafka_sender import commit_as_member
from service_scaffold.journal.kafka_splitting import split_refused
from service_scaffold.journal.kafka_topics import (
    create_topics,
    delete_topics,
    describe_topics,
    list_topics,
)

LOGGER = logging.getLogger(__name__)

PULSE_S = 3.0
"""Seconds between questions to a healthy cluster."""
SILENT_S = 8.0
"""No answer for so long: the connection is lost."""
REFUSED_S = 2.0
"""No node accepts a connection for so long: the connection is lost."""
ANSWER_S = 2.0
RETRY_S = 0.2
USABLE_S = 10.0
CLOSE_LIMIT_S = 1.8

Part = TypeVar('Part', KafkaReader, KafkaMember, KafkaProducer)


class KafkaJournal(base.Journal):
    """One connection to one Kafka cluster (2.5 or newer).

    Args:
        access: Where it is, and who we are there.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._client: ControlClient | None = None
        self._asker: Any = None
        self._asking = asyncio.Lock()
        self._pulse: asyncio.Task[None] | None = None
        self._lost: asyncio.Future[Exception] | None = None
        self._parts: set[KafkaReader | KafkaProducer] = set()
        self._closing: asyncio.Future[None] | None = None

    @property
    def lost(self) -> asyncio.Future[Exception]:
        if self._lost is None:
            self._lost = asyncio.get_running_loop().create_future()
        return self._lost

    # The connection

    async def connect(self) -> None:
        quieten()
        client = self._client = make_client(self._access)
        try:
            await client.bootstrap()
        except kafka_errors.KafkaConnectionError as error:
            raise await explain_refusal(self._access) from error
        self._pulse = asyncio.create_task(self._feel_pulse(), name='kafka pulse')

    async def _feel_pulse(self) -> None:
        """Ask the cluster now and then; report it lost when it has been away too long."""
        client = self._connected()
        answered = time.monotonic()
        while True:
            refused = await self._ask_any(client)
            now = time.monotonic()
            if refused is None:
                answered = now
                client.broken.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PULSE_S):
                        await client.broken.wait()
                continue
            away_s = now - answered
            if away_s > (REFUSED_S if refused else SILENT_S):
                how = 'refuses connections' if refused else 'does not answer'
                self._lose(errors.ConnectionLost(f'Kafka at {self._access} {how}'))
                return
            await asyncio.sleep(RETRY_S)

    async def _ask_any(self, client: ControlClient) -> bool | None:
        """Ask one node after the other; return None if one has answered, else whether none
        could even be connected to."""
        refused = True
        nodes = [broker.nodeId for broker in client.cluster.brokers()]
        for node in random.sample(nodes, len(nodes)):
            try:
                async with asyncio.timeout(ANSWER_S):
                    await client.send(node, metadata.MetadataRequest([]))
                return None
            except TimeoutError:
                refused = False
            except kafka_errors.KafkaError:
                continue
        return refused

    def _lose(self, reason: Exception) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)

    def _connected(self) -> ControlClient:
        if self._client is None:
            raise errors.ConnectionLost('Not connected to Kafka')
        return self._client

    async def close(self) -> None:
        if self._closing is None or self._closing.done():
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        pulse, self._pulse = self._pulse, None
        client, self._client = self._client, None
        asker, self._asker = self._asker, None
        closing = [part.close() for part in self._parts]
        self._parts.clear()
        if asker is not None:
            closing.append(discard_consumer(asker))
        if pulse is not None:
            pulse.cancel()
            await asyncio.wait({pulse})
        if client is not None:
            closing.append(client.close())
        tasks = [asyncio.ensure_future(part) for part in closing]
        if not tasks:
            return
        done, late = await asyncio.wait(tasks, timeout=CLOSE_LIMIT_S)
        for task in late:
            task.cancel()
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                LOGGER.debug('Closing a part of a Kafka connection failed: %s', error)

    # Topics

    async def create(self, topics: Iterable[base.TopicSpec]) -> None:
        specs = {spec.name: spec for spec in topics}
        counts = await self.partitions(specs)
        missing = [spec for name, spec in specs.items() if counts[name] is None]
        if not missing:
            return
        async with bounded(f'creating {", ".join(s.name for s in missing)}', USABLE_S):
            await create_topics(self._connected(), missing)

    async def delete(self, topics: Iterable[str]) -> None:
        names = list(topics)
        async with bounded(f'deleting {", ".join(names)}', USABLE_S):
            await delete_topics(self._connected(), names)

    async def partitions(self, topics: Iterable[str]) -> Mapping[str, int | None]:
        names = list(topics)
        async with bounded('asking for topics', self._access.timeout_s):
            described = await describe_topics(self._connected(), names)
        return {name: len(described[name]) or None for name in names}

    async def topics(self, prefix: str = '') -> list[str]:
        async with bounded('asking for topics', self._access.timeout_s):
            names = await list_topics(self._connected())
        return [name for name in names if name.startswith(prefix)]

    async def offsets(
        self, partitions: Iterable[base.TopicPartition], at: Literal['first', 'end'] | int
    ) -> Mapping[base.TopicPartition, int]:
        wanted = [TopicPartition(*where) for where in partitions]
        if not wanted:
            return {}
        async with bounded('asking for offsets', self._access.timeout_s):
            consumer = await self._ask_consumer()
            if at == 'first':
                found = await consumer.beginning_offsets(wanted)
            elif at == 'end':
                found = await consumer.end_offsets(wanted)
            else:
                found = await self._offsets_at(consumer, wanted, at)
        return {base.TopicPartition(*where): offset for where, offset in found.items()}

    async def _offsets_at(
        self, consumer: Any, wanted: list[TopicPartition], timestamp: int
    ) -> dict[TopicPartition, int]:
        end = await consumer.end_offsets(wanted)
        found = await consumer.offsets_for_times(dict.fromkeys(wanted, timestamp))
        return {
            where: end[where] if found.get(where) is None else found[where].offset
            for where in wanted
        }

    async def _ask_consumer(self) -> Any:
        """Return the consumer that is only asked for offsets."""
        async with self._asking:
            self._connected()
            if self._asker is None:
                consumer = make_consumer(self._access)
                await start_consumer(consumer, 'connecting', self._access.timeout_s)
                if self._client is None:
                    await discard_consumer(consumer)
                    self._connected()
                self._asker = consumer
        return self._asker

    # Groups

    async def members(self, group: str) -> list[str]:
        async with bounded(f'asking for the members of group {group}', self._access.timeout_s):
            return await group_members(self._connected(), group)

    async def forget(self, group: str) -> None:
        async with bounded(f'forgetting group {group}', self._access.timeout_s):
            await forget_group(self._connected(), group)

    # Reading and appending

    async def reader(self, *, isolation: base.Isolation = 'read_committed') -> KafkaReader:
        consumer = make_consumer(self._access, isolation=isolation)
        await start_consumer(consumer, 'starting a reader', self._access.timeout_s)
        return await self._kept(
            KafkaReader(consumer, self.lost, self.offsets, self._access.timeout_s)
        )

    async def member(
        self,
        group: str,
        listener: base.RebalanceListener,
        *,
        isolation: base.Isolation = 'read_committed',
        max_pause_s: float = 300.0,
    ) -> KafkaMember:
        consumer = make_consumer(
            self._access, isolation=isolation, group=group, max_pause_s=max_pause_s
        )
        await start_consumer(consumer, f'joining group {group}', self._access.timeout_s)
        timeout_s = self._access.timeout_s
        return await self._kept(
            KafkaMember(consumer, group, listener, self.lost, self.offsets, timeout_s)
        )

    async def producer(
        self, transactional_id: str | None = None, *, timeout_s: float = 5.0
    ) -> KafkaProducer:
        timeout_s = self._access.tuning.producer_request_s or timeout_s
        producer = make_producer(self._access, transactional_id, timeout_s)
        sender = None
        if transactional_id is None:
            split_refused(producer)
        else:
            sender = commit_as_member(producer)
        try:
            async with bounded('starting a producer', max(timeout_s, self._access.timeout_s)):
                await producer.start()
        except BaseException:
            await discard_producer(producer)
            raise
        partitioner = self._access.tuning.partitioner
        return await self._kept(KafkaProducer(producer, sender, timeout_s, partitioner))

    async def _kept(self, part: Part) -> Part:
        if self._client is None:  # closed while the part was starting: nobody else would close it
            await part.close()
            self._connected()
        ended = {p for p in self._parts if p.closing is not None and p.closing.done()}
        self._parts = self._parts - ended | {part}
        return part
