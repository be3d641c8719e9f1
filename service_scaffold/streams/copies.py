"""Copies of table partitions that other workers own: standbys, and the rest of global tables.

A copy follows the changelog into a store of this worker. When the partition becomes ours, its
store is almost where the changelog ends, and the recovery reads the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.journal.base import Journal, Reader, Record, TopicPartition
from service_scaffold.streams.copy import Copy, CopyState
from service_scaffold.streams.stores.base import Backend
from service_scaffold.streams.tables.table import Table

LOGGER = logging.getLogger(__name__)

BATCH = 5_000
WAIT_S = 0.5
ENDS_EVERY_S = 2.0
"""How often the ends of changelogs are looked at, for the lag."""
AGAIN_S = 5.0
"""How long a partition is left alone whose store could not be used."""


class Copies:
    """Follows the changelogs of the partitions that are wanted here and owned elsewhere.

    Args:
        owned: Tells whether a task of ours has a partition of a table, by partition count and
            number; then its store is not ours to open.

    Attributes:
        by_place: What is followed, by table name and partition.
    """

    def __init__(
        self,
        journal: Journal,
        stores: Backend,
        clock: Clock,
        owned: Callable[[tuple[int, int]], bool],
    ) -> None:
        self.by_place: dict[tuple[str, int], Copy] = {}
        self._journal = journal
        self._stores = stores
        self._clock = clock
        self._owned = owned
        self._wanted: dict[tuple[str, int], Table] = {}
        self._not_before: dict[tuple[str, int], float] = {}
        self._changed = asyncio.Event()
        self._moved = asyncio.Event()
        self._reader: Reader | None = None
        self._closed = False
        self._read: dict[TopicPartition, Copy] = {}
        self._ends_at = 0.0

    def want(self, places: Iterable[tuple[Table, int]]) -> None:
        """Follow these, and no others."""
        self._wanted = {(table.name, number): table for table, number in places}
        self._changed.set()

    def wants(self, table: Table, number: int) -> bool:
        """Tell whether a partition is followed, or to be."""
        place = (table.name, number)
        return place in self._wanted or place in self.by_place

    def release(self, table: Table, number: int) -> bool:
        """Let go of the store of a partition, which becomes ours; tell whether it was whole."""
        copy = self.by_place.get((table.name, number))
        self._drop((table.name, number))
        return copy is not None and copy.whole

    def adopt(self, table: Table, number: int) -> None:
        """Follow at once a partition that is ours no more, so that there is no gap for readers."""
        place = (table.name, number)
        if self._closed:
            return
        if table.is_global and place in self._wanted and place not in self.by_place:
            self._open(place, table)

    @property
    def whole(self) -> bool:
        """Whether the global tables are here, as they were when they were opened."""
        return not self._missing()

    def _missing(self) -> list[str]:
        return [
            f'{name}/{number}'
            for (name, number), table in self._wanted.items()
            if table.is_global
            and not self._owned((table.count or 0, number))
            and not ((copy := self.by_place.get((name, number))) is not None and copy.whole)
        ]

    async def until_whole(self) -> None:
        """Wait until the global tables are here."""
        while not self.whole:
            self._moved.clear()
            await self._moved.wait()

    # Following

    async def run(self) -> None:
        """Follow until cancelled, or until the connection is lost.

        Raises:
            ConnectionLost: The connection has ended.
        """
        try:
            while True:
                await self._open_and_close()
                if self.by_place:
                    await self._follow()
                else:
                    self._tell()
                    self._changed.clear()
                    await self._changed.wait()
        finally:
            self.close()
            if self._reader is not None:
                await self._reader.close()

    def close(self) -> None:
        """Close all stores; none is opened again."""
        self._closed = True
        for place in list(self.by_place):
            self._drop(place)

    async def _open_and_close(self) -> None:
        now = self._clock.monotonic()
        wanted = {
            place: table
            for place, table in self._wanted.items()
            if not self._owned((table.count or 0, place[1]))
            and self._not_before.get(place, now) <= now
        }
        for place in [place for place in self.by_place if place not in self._wanted]:
            self._drop(place)
        fresh = {p: table for p, table in wanted.items() if p not in self.by_place}
        logs = {table.changelog for table in fresh.values()}
        counts = await self._journal.partitions(logs) if logs else {}
        for place, table in list(fresh.items()):
            if place[1] >= (counts[table.changelog] or 0):  # it is made with the first partition
                del fresh[place]
        if fresh:
            places = [table.logged(number) for (_, number), table in fresh.items()]
            first = await self._journal.offsets(places, 'first')
            end = await self._journal.offsets(places, 'end')
            for place, table in fresh.items():
                where = table.logged(place[1])
                self._open(place, table, first[where], end[where])
        await self._assign()

    def _open(
        self, place: tuple[str, int], table: Table, first: int | None = None, end: int | None = None
    ) -> None:
        number = place[1]
        if place in self.by_place or self._owned((table.count or 0, number)):
            return  # it has become ours, or was ours, while we asked
        try:
            copy = self._opened(table, number, first, end)
        except errors.StoreError as error:
            self._leave_alone(place, error)
            return
        self.by_place[place] = copy
        table.copies[number] = copy.state

    def _opened(self, table: Table, number: int, first: int | None, end: int | None) -> Copy:
        store = self._stores.open(table.name, number)
        try:
            state = CopyState(table.name, number, store, table.logged(number))
            state.keeper = table.keeper(state)  # for those who read a table that goes by time
            if state.keeper is not None:
                state.keeper.clock = self._clock
            return Copy(table, state, first, end)
        except BaseException:
            store.close()  # else it was in use for whoever gets the partition
            raise

    def _leave_alone(self, place: tuple[str, int], error: Exception) -> None:
        LOGGER.warning('Table %s, partition %d cannot be copied: %s', *place, error)
        self._not_before[place] = self._clock.monotonic() + AGAIN_S
        self._drop(place)

    def _drop(self, place: tuple[str, int]) -> None:
        copy = self.by_place.pop(place, None)
        if copy is not None:
            copy.table.copies.pop(place[1], None)
            copy.state.close()

    async def _assign(self) -> None:
        following = {copy.where: copy for copy in self.by_place.values()}
        if following == self._read:
            return
        if self._reader is None:
            self._reader = await self._journal.reader()
        await self._reader.assign({where: copy.next for where, copy in following.items()})
        # A partition that was ours in between may be at another place than the reader remembers.
        await self._reader.seek({where: copy.next for where, copy in following.items()})
        self._read = following

    async def _follow(self) -> None:
        """Take what comes next."""
        assert self._reader is not None
        try:
            records = await self._reader.fetch(BATCH, WAIT_S)
        except errors.OffsetsLost as error:
            self._begin_again(error)
            return
        places = {copy.where: place for place, copy in self.by_place.items()}
        runs: dict[TopicPartition, list[Record]] = {}
        for record in records:
            runs.setdefault(TopicPartition(record.topic, record.partition), []).append(record)
        for where, run in runs.items():
            if where in places:
                self._take(places[where], run)
        await self._look_at_ends()
        self._tell()

    def _take(self, place: tuple[str, int], records: Sequence[Record]) -> None:
        copy = self.by_place[place]
        try:
            copy.take(records)
        except errors.StoreError as error:
            self._leave_alone(place, error)

    def _begin_again(self, error: errors.OffsetsLost) -> None:
        """Drop the copies of what has left the log; they are opened anew."""
        lost = {TopicPartition(*where) for where in error.offsets}
        for place, copy in list(self.by_place.items()):
            if copy.where in lost:
                LOGGER.warning('Table %s, partition %d is copied anew: %s', *place, error)
                try:
                    copy.state.store.wipe()
                except errors.StoreError as failure:
                    self._leave_alone(place, failure)
                else:
                    self._drop(place)
        self._read = {}

    async def _look_at_ends(self) -> None:
        assert self._reader is not None
        for copy in self.by_place.values():
            if copy.where in self._read:
                copy.read_to(self._reader.position(copy.where))
        now = self._clock.monotonic()
        if now - self._ends_at >= ENDS_EVERY_S:
            self._ends_at = now
            ends = await self._journal.offsets(sorted(self._read), 'end')
            for copy in self.by_place.values():
                copy.end = ends.get(copy.where, copy.end)

    def _tell(self) -> None:
        self._moved.set()
