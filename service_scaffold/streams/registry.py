"""Which workers there are, where they are reached, and what each has.

Each worker announces itself in a compacted topic, `{id}-workers`, when something changes and every
few seconds; one that has not been heard of for a while does not count.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b

import msgspec

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.journal.base import (
    Journal,
    NewRecord,
    Producer,
    Record,
    TopicPartition,
    TopicSpec,
)

LOGGER = logging.getLogger(__name__)

LOOK_S = 0.25
"""How often one looks whether there is something new to announce."""
ANNOUNCE_S = 3.0
"""How often a worker announces itself when nothing has changed."""
SILENT_S = 10.0
"""A worker that was not heard of for so long does not count."""
BATCH = 1_000

Places = dict[str, list[int]]
"""Partition numbers by the name of a topic or table."""


def workers_topic(id: str) -> str:
    """Return the name of the topic in which the workers of an application tell what they have."""
    return f'{id}-workers'


class WorkerInfo(msgspec.Struct, omit_defaults=True):
    """What a worker says of itself.

    Attributes:
        id: Its own, kept over restarts in the same directory.
        url: Where its HTTP server is reached; None without one.
        generation: Of the group, as it knows it: of two who claim a partition the newer counts.
        topics: Partitions of topics that are its.
        tables: Partitions of tables that are its.
        copies: Partitions of tables that it has a copy of.
    """

    id: str
    url: str | None = None
    generation: int = -1
    topics: Places = {}
    tables: Places = {}
    copies: Places = {}

    def has(self, kind: str, name: str, number: int) -> bool:
        """Tell whether it has a partition: of `topics`, `tables` or `copies`."""
        places: Places = getattr(self, kind)
        return number in places.get(name, ())


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(WorkerInfo)


class Registry:
    """Knows the workers of an application, and makes this one known.

    Args:
        topic: Where workers announce themselves.
        describe: Returns what to say of this one.

    Attributes:
        ready: Set when all has been read that was there at the start.
    """

    def __init__(
        self,
        journal: Journal,
        topic: TopicSpec,
        clock: Clock,
        describe: Callable[[], WorkerInfo],
    ) -> None:
        self.ready = asyncio.Event()
        self._journal = journal
        self._spec = topic
        self._where = TopicPartition(topic.name, 0)
        self._clock = clock
        self._describe = describe
        self._heard: dict[str, tuple[WorkerInfo, float]] = {}
        self._announced: WorkerInfo | None = None
        self._announced_at = 0.0
        self._producer: Producer | None = None

    @property
    def workers(self) -> Mapping[str, WorkerInfo]:
        """Those that live, by id, and this one among them."""
        now = self._clock.monotonic()
        me = self._describe()
        found = {id: info for id, (info, at) in self._heard.items() if now - at < SILENT_S}
        return {**found, me.id: me}

    def owner(self, kind: str, name: str, number: int) -> WorkerInfo | None:
        """Return who has a partition of a topic or table, None when nobody says so."""
        return owner_among(self.workers.values(), kind, name, number)

    def holders(self, table: str, number: int) -> list[WorkerInfo]:
        """Return who has a copy of a table's partition."""
        return [info for info in self.workers.values() if info.has('copies', table, number)]

    # At work

    async def run(self, producer: Producer, *, create: bool = True) -> None:
        """Announce this worker and listen to the others, until the connection is lost.

        Args:
            create: Whether the topic may be made.

        Raises:
            ConnectionLost: It is.
            JournalError: The topic is missing.
        """
        self._producer = producer
        topic = self._spec.name
        if create:
            await self._journal.create([self._spec])
        elif (await self._journal.partitions([topic]))[topic] is None:
            raise errors.JournalError(
                f'the topic {topic} is missing, and may not be made here; make it, compacted, with'
                ' one partition'
            )
        first = (await self._journal.offsets([self._where], 'first'))[self._where]
        end = (await self._journal.offsets([self._where], 'end'))[self._where]
        reader = await self._journal.reader()
        try:
            await reader.assign({self._where: first})
            while True:
                await self._announce_if_due()
                for record in await reader.fetch(BATCH, LOOK_S):
                    self._hear(record)
                if not self.ready.is_set() and reader.position(self._where) >= end:
                    self.ready.set()
        finally:
            await reader.close()

    def _hear(self, record: Record) -> None:
        if record.key is None:
            return
        id = record.key.decode()
        if record.value is None:
            self._heard.pop(id, None)
            return
        try:
            info = _DECODER.decode(record.value)
        except msgspec.MsgspecError as error:  # of another version than ours
            LOGGER.debug('What worker %s says of itself is not understood: %s', id, error)
            return
        # What was said before we came may be of a worker that has gone; clocks may differ.
        age_s = max(0.0, self._clock.time() - record.timestamp / 1000)
        old = 0.0 if self.ready.is_set() else age_s
        self._heard[id] = (info, self._clock.monotonic() - old)

    async def _announce_if_due(self) -> None:
        info = self._describe()
        now = self._clock.monotonic()
        if info != self._announced or now - self._announced_at >= ANNOUNCE_S:
            await self._send(info.id, _ENCODER.encode(info))
            self._announced, self._announced_at = info, now

    async def _send(self, id: str, value: bytes | None) -> None:
        assert self._producer is not None
        record = NewRecord(self._where.topic, value, id.encode(), partition=0)
        (outcome,) = await self._producer.produce([record])
        if isinstance(outcome, Exception):
            raise outcome

    async def leave(self) -> None:
        """Say that this worker goes. Raises nothing: the others notice it anyway."""
        if self._announced is None:
            return
        try:
            await self._send(self._announced.id, None)
        except (errors.ScaffoldError, TimeoutError) as error:
            LOGGER.debug('Going without a word: %s', error)


def owner_among(
    workers: Iterable[WorkerInfo], kind: str, name: str, number: int
) -> WorkerInfo | None:
    """Return who of these has a partition; of two who say so the one that knows more of the group.

    Args:
        kind: `tables` or `topics`.
    """
    owners = [info for info in workers if info.has(kind, name, number)]
    return max(owners, key=lambda info: info.generation, default=None)


def standby_places(
    registry: Registry, me: str, tables: Mapping[str, int], replicas: int
) -> list[tuple[str, int]]:
    """Return the partitions of tables that worker `me` is to keep a copy of.

    Each partition has `replicas` of them, at those workers whose id and the partition have the
    highest hash together: when one comes or goes, only what it has moves.

    Args:
        tables: The partition count of each.
    """
    workers = registry.workers  # once: it is made anew each time
    found: list[tuple[str, int]] = []
    for table, count in tables.items():
        for number in range(count):
            owner = owner_among(workers.values(), 'tables', table, number)
            others = [id for id in workers if owner is None or id != owner.id]
            others.sort(key=lambda id: _weight(id, table, number), reverse=True)
            if me in others[:replicas]:
                found.append((table, number))
    return found


def _weight(id: str, table: str, number: int) -> bytes:
    return blake2b(f'{id}/{table}/{number}'.encode(), digest_size=8).digest()
