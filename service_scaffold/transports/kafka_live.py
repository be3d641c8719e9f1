"""Live views on Kafka: all partitions of their topics, read by every instance, without a group."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence

from service_scaffold import errors
from service_scaffold.journal.base import TopicPartition
from service_scaffold.journal.kafka import KafkaJournal
from service_scaffold.journal.kafka_reader import KafkaReader
from service_scaffold.transports.base import Binding, Delivery, Intake, IntakeSpec
from service_scaffold.transports.kafka_group import Declare
from service_scaffold.transports.kafka_records import to_deliveries

LOGGER = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
"""How often partitions that were added are looked for."""
WAIT_S = 1.0
KEEP = 'kafka'
"""Under this name the positions are kept over reconnects."""


class LiveIntake(Intake):
    """Deliveries of topics from their end on, and of partitions made later from their beginning.

    Attributes:
        closed: Whether `close` was called.
    """

    def __init__(self, journal: KafkaJournal, spec: IntakeSpec, declare: Declare) -> None:
        self._journal = journal
        self._declare = declare
        self._positions: dict[TopicPartition, int] = spec.keep.setdefault(KEEP, {})
        self._bindings: set[Binding] = set()
        self._topics: frozenset[str] = frozenset()
        self._reader: KafkaReader | None = None
        self._look_at = 0.0
        self._assigning = asyncio.Lock()  # binding and looking for partitions, one at a time
        self._paused = False
        self.closed = False

    async def open(self) -> None:
        """Make the reader; it reads what is bound."""
        self._reader = await self._journal.reader()

    async def bind(self, bindings: Sequence[Binding]) -> Mapping[Binding, Exception]:
        refused: dict[str, Exception] = {}
        for topic in {binding.exchange for binding in bindings} - self._topics:
            error = await self._declare(topic)
            if error is not None:
                refused[topic] = error
        wanted = {binding for binding in bindings if binding.exchange not in refused}
        async with self._assigning:
            await self._read(self._bindings | wanted)
        return {b: refused[b.exchange] for b in bindings if b.exchange in refused}

    async def unbind(self, bindings: Sequence[Binding]) -> None:
        async with self._assigning:
            await self._read(self._bindings - set(bindings))

    async def _read(self, bindings: set[Binding]) -> None:
        topics = frozenset(binding.exchange for binding in bindings)
        if topics != self._topics:
            for where in [w for w in self._positions if w.topic in self._topics - topics]:
                del self._positions[where]
            await self._assign(topics)
        self._topics = topics
        self._bindings = bindings

    async def _assign(self, topics: Iterable[str]) -> None:
        """Read all partitions that `topics` have now."""
        counts = await self._journal.partitions(topics)
        everything = [
            TopicPartition(topic, number)
            for topic, count in counts.items()
            for number in range(count or 0)
        ]
        fresh = [where for where in everything if where not in self._positions]
        known = {where.topic for where in self._positions}
        later = [where for where in fresh if where.topic in known]
        ends = [where for where in fresh if where.topic not in known]
        self._positions.update(await self._journal.offsets(later, 'first'))
        self._positions.update(await self._journal.offsets(ends, 'end'))
        await self._own().assign({where: self._positions[where] for where in everything})
        self._look_at = time.monotonic() + LOOK_EVERY_S

    def _own(self) -> KafkaReader:
        if self._reader is None:
            raise errors.IntakeLost('The consumer is closed')
        return self._reader

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        while True:
            await asyncio.sleep(0)
            if time.monotonic() >= self._look_at:
                async with self._assigning:
                    await self._look()
            try:
                runs = await self._own().fetch_runs(limit, WAIT_S)
            except errors.OffsetsLost as error:
                await self._skip(error)
                continue
            except errors.JournalError as error:
                raise errors.IntakeLost(str(error)) from error
            if not runs or self._paused:
                continue
            deliveries: list[Delivery] = []
            for where, records in runs.items():
                place = TopicPartition(*where)
                if place in self._positions:  # else it is being unbound
                    deliveries += to_deliveries(records)
                    self._positions[place] = records[-1].offset + 1
            if deliveries:
                return deliveries

    async def _look(self) -> None:
        """Read partitions that were added, too."""
        self._look_at = time.monotonic() + LOOK_EVERY_S
        try:
            counts = await self._journal.partitions(self._topics)
            read = {
                topic: sum(where.topic == topic for where in self._positions)
                for topic in self._topics
            }
            if any((counts[topic] or 0) > read[topic] for topic in self._topics):
                await self._assign(self._topics)
        except errors.ConnectionLost as error:
            LOGGER.debug('Looking for new partitions failed: %s', error)

    async def _skip(self, lost: errors.OffsetsLost) -> None:
        """Go on with the oldest that is left: a live view promises at most once."""
        LOGGER.warning('Live views have missed messages. %s', lost)
        for (topic, partition), (_, first) in lost.offsets.items():
            place = TopicPartition(topic, partition)
            if place in self._positions:
                self._positions[place] = first
                await self._own().seek({place: first})

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Live views settle nothing."""

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Live views hand nothing back."""

    async def pause(self) -> None:
        self._paused = True

    def void(self) -> None:
        """The connection is lost: what was handed out stays good."""

    async def close(self, *, forget: bool = False) -> None:
        self.closed = True
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()
