"""Telling others which partitions come and go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from service_scaffold.journal.base import RebalanceListener, TopicPartition
from service_scaffold.streams.duties import Duties
from service_scaffold.streams.node import Spawn
from service_scaffold.streams.signals import Signal

LOGGER = logging.getLogger(__name__)

LOOK_S = 0.01


class Announcer(RebalanceListener):
    """Passes a group's news on, and sends the signals of an application about them.

    What a handler raises is logged: a rebalance does not wait for it to be mended.

    Args:
        inner: Who acts on the news.
        settled: Whether all that has come is recovered and runs.
    """

    def __init__(
        self,
        inner: RebalanceListener,
        duties: Duties,
        settled: Callable[[], bool],
        spawn: Spawn,
    ) -> None:
        self._inner = inner
        self._duties = duties
        self._settled = settled
        self._spawn = spawn
        self._completing: asyncio.Task[None] | None = None

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Tell what is about to leave, then act."""
        self.close()
        await self._tell(self._duties.on_partitions_revoked, set(partitions))
        await self._inner.on_revoked(partitions)

    async def on_assigning(self, partitions: frozenset[TopicPartition]) -> None:
        """Act."""
        await self._inner.on_assigning(partitions)

    async def on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """Act, then tell what has come, and later that all of it runs."""
        await self._inner.on_assigned(partitions)
        await self._tell(self._duties.on_partitions_assigned, set(partitions))
        self.close()
        if self._duties.on_rebalance_complete:
            self._completing = self._spawn(self._complete(), 'rebalance complete')

    async def _complete(self) -> None:
        while not self._settled():  # noqa: ASYNC110 - tasks are begun in several places
            await asyncio.sleep(LOOK_S)
        await self._tell(self._duties.on_rebalance_complete)

    async def _tell(self, signal: Signal, *values: Any) -> None:
        try:
            await signal.send(self._duties, *values)
        except Exception as error:
            LOGGER.error('A handler of %s failed: %s', signal.name, error, exc_info=error)

    def close(self) -> None:
        """Tell nothing more of the last rebalance."""
        if self._completing is not None:
            self._completing.cancel()
            self._completing = None
