"""Stores of table partitions that have gone elsewhere: kept for a while, then removed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.streams.stores.base import Backend
from service_scaffold.streams.tables.table import Table

LOGGER = logging.getLogger(__name__)

Place = tuple[str, int]
"""Name of a table, and number of a partition."""


class Leftovers:
    """Removes stores that nobody on this worker has used for a while.

    A partition that comes back soon, as after a restart elsewhere, finds its store, and reads
    little of its changelog. One that does not would fill the disk, for ever.

    Args:
        tables: All of the application.
        used: Tells whether a partition is ours, or followed.
        kept_s: For how long a store is kept that is not used.
        look_s: How often it is looked for those.
    """

    def __init__(
        self,
        stores: Backend,
        tables: Mapping[str, Table],
        used: Callable[[Table, int], bool],
        clock: Clock,
        kept_s: float,
        look_s: float,
    ) -> None:
        self._stores = stores
        self._tables = tables
        self._used = used
        self._clock = clock
        self._kept_s = kept_s
        self._look_s = look_s
        self._since: dict[Place, float] = {}
        self._gone: set[Place] = set()

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await self._clock.sleep(min(self._look_s, self._kept_s))
            await self.look()

    async def look(self) -> None:
        """Remove what has been of no use for long enough."""
        now = self._clock.monotonic()
        for place in self._unused():
            if now - self._since.setdefault(place, now) >= self._kept_s:
                await self._remove(place)

    def _unused(self) -> list[Place]:
        found: list[Place] = []
        for table in self._tables.values():
            for number in range(table.count or 0):
                place = table.name, number
                if self._used(table, number):
                    self._since.pop(place, None)
                    self._gone.discard(place)
                elif place not in self._gone:
                    found.append(place)
        return found

    async def _remove(self, place: Place) -> None:
        if self._used(self._tables[place[0]], place[1]):
            return  # it has come while another one was removed
        try:
            # Much of it takes a while. Whoever wants to open it meanwhile tries again.
            await asyncio.to_thread(self._stores.drop, *place)
        except errors.StoreError as error:
            LOGGER.warning('Table %s, partition %d: its old store stays: %s', *place, error)
            return
        self._gone.add(place)
        LOGGER.debug('Table %s, partition %d: it was elsewhere for long; store removed', *place)
