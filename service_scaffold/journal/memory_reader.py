"""Reading logs in memory, without a group."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from service_scaffold import errors
from service_scaffold.journal import base
from service_scaffold.journal.base import TopicPartition
from service_scaffold.journal.memory_broker import MemoryBroker
from service_scaffold.journal.memory_log import Partition
from service_scaffold.journal.memory_network import Connection


class MemoryReader(base.Reader):
    """Reads given partitions, in turn so that none is starved.

    Attributes:
        closed: Whether `close` was called.
    """

    def __init__(
        self, broker: MemoryBroker, connection: Connection, isolation: base.Isolation
    ) -> None:
        self._broker = broker
        self._connection = connection
        self._committed_only = isolation == 'read_committed'
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self.closed = False

    async def assign(self, positions: base.Offsets) -> None:
        self._check()
        kept = self._positions
        self._positions = {where: kept.get(where, o) for where, o in positions.items()}
        self._paused.intersection_update(self._positions)

    async def fetch(self, limit: int, timeout_s: float) -> Sequence[base.Record]:
        await asyncio.sleep(0)
        clock, network = self._broker.clock, self._connection.network
        deadline = clock.monotonic() + timeout_s
        while True:
            self._check()
            if network.delay_s > 0 and network.state == 'up':
                await self._connection.cross()
            if self._open and network.state != 'half_open' and (records := self._read(limit)):
                return records
            left_s = deadline - clock.monotonic()
            if left_s <= 0:
                return ()
            topics = frozenset(where.topic for where in self._positions)
            await self._broker.wait_for_records(topics, left_s)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self._paused.update(self._positions.keys() & set(partitions))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        self._paused.difference_update(partitions)
        self._broker.wake()

    def position(self, partition: TopicPartition) -> int:
        offset = self._positions.get(partition)
        if offset is None:
            raise errors.JournalError(f'{partition.topic}/{partition.partition} is not being read')
        log = self._log(partition)
        return offset if log is None else log.skip(offset, committed=self._committed_only)

    async def seek(self, positions: base.Offsets) -> None:
        for partition, offset in positions.items():
            if partition in self._positions:
                self._positions[partition] = offset
        self._broker.wake()

    async def close(self) -> None:
        self.closed = True
        self._broker.wake()

    @property
    def _open(self) -> bool:
        """Whether records may be handed out now."""
        return True

    def _read(self, limit: int) -> list[base.Record]:
        found: list[base.Record] = []
        moved: dict[TopicPartition, int] = {}
        for where, offset in self._positions.items():
            log = self._log(where)
            if where in self._paused or log is None:
                continue
            if not log.start <= offset <= log.end:
                raise self._offsets_lost(where, offset, log)
            if offset == log.end:
                continue
            if len(found) == limit:
                break
            records, moved[where] = log.read(
                offset, limit - len(found), committed=self._committed_only
            )
            found.extend(records)
        for where, offset in moved.items():  # to the end of the line
            del self._positions[where]
            self._positions[where] = offset
        return found

    def _log(self, where: TopicPartition) -> Partition | None:
        topic = self._broker.topics.get(where.topic)
        if topic is None or where.partition >= len(topic.partitions):
            return None
        return topic.partitions[where.partition]

    def _offsets_lost(self, where: TopicPartition, offset: int, log: Partition) -> Exception:
        return errors.OffsetsLost(
            f'Offsets are no longer in the log: {where.topic}/{where.partition} at {offset},'
            f' the log has {log.start} to {log.end}',
            {(where.topic, where.partition): (offset, log.start)},
        )

    def _check(self) -> None:
        self._connection.check()
        if self.closed:
            raise errors.ConnectionLost('The reader is closed')
