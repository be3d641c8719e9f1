"""Reading Kafka partitions without a group."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from service_scaffold import errors
from service_scaffold.journal import base
from service_scaffold.journal.kafka_client import (
    TopicPartition,
    bounded,
    kafka_errors,
    translate,
)
from service_scaffold.journal.kafka_internals import (
    discard_consumer,
    end_fetch,
    get_others,
    look_again,
    partition_state,
)

LOGGER = logging.getLogger(__name__)

SLICE_S = 0.5
"""How long one wait for records may last before we look whether the connection is lost."""

Bounds = Callable[
    [Iterable[base.TopicPartition], Literal['first', 'end']],
    Awaitable[Mapping[base.TopicPartition, int]],
]
"""Looks up first or end offsets."""

Runs = Mapping[base.TopicPartition, Sequence[base.Record]]


class KafkaReader(base.Reader):
    """Reads given partitions with a consumer of the client's.

    Args:
        consumer: A started consumer, ours from now on.
        lost: The journal's.
        bounds: The journal's `offsets`, to say what is left of lost offsets.
        timeout_s: Bound of a request.

    Attributes:
        closing: The end of it, once `close` was called.
    """

    def __init__(
        self,
        consumer: Any,
        lost: asyncio.Future[Exception],
        bounds: Bounds,
        timeout_s: float,
    ) -> None:
        self._consumer = consumer
        self._lost = lost
        self._bounds = bounds
        self._timeout_s = timeout_s
        self.closing: asyncio.Future[None] | None = None
        self._assigned = False
        self._held: set[TopicPartition] = set()

    async def assign(self, positions: base.Offsets) -> None:
        wanted = _partitions(positions)
        self._assigned = bool(wanted)
        kept = {}
        for partition in wanted:
            state = partition_state(self._consumer, partition)
            if state is not None and state.has_valid_position:
                kept[partition] = state.position
        self._consumer.assign(wanted)
        self._held &= set(wanted)
        for partition in wanted:
            # An explicit seek at once: `seek_to_beginning` right after `assign` reads nothing.
            self._consumer.seek(partition, kept.get(partition, positions[partition]))

    async def fetch(self, limit: int, timeout_s: float) -> Sequence[base.Record]:
        runs = await self.fetch_runs(limit, timeout_s)
        return [record for records in runs.values() for record in records]

    async def fetch_runs(self, limit: int, timeout_s: float) -> Runs:
        """As `fetch`, with the records by partition.

        May be cancelled without losing records: the client takes them from its buffer and
        returns them without waiting in between.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            if self.closing is not None or self._lost.done():
                raise self._gone()
            left_s = deadline - time.monotonic()
            runs = await self._fetch_slice(limit, max(0.0, min(left_s, SLICE_S)))
            if runs or left_s <= 0:
                return runs

    async def _fetch_slice(self, limit: int, timeout_s: float) -> Runs:
        if not self._assigned:  # the client would wait without limit
            await asyncio.sleep(timeout_s)
            return {}
        return await self._get(limit, timeout_s)

    async def _get(self, limit: int, timeout_s: float) -> Runs:
        ended = False
        try:
            runs: Runs = await get_others(self._consumer, self._held, limit, timeout_s)
            ended = True
        except kafka_errors.NoOffsetForPartitionError as error:
            # The client has looked between an assignment and our `seek`, which is about to come.
            LOGGER.debug('A partition had no position yet: %s', error)
            ended = True
            runs = {}
        except kafka_errors.OffsetOutOfRangeError as error:
            raise await self._offsets_lost(error.args[0]) from error
        except kafka_errors.KafkaError as error:
            raise translate(error, 'reading') from error
        finally:
            if not ended:
                end_fetch(self._consumer)
        return runs

    async def _offsets_lost(self, asked: Mapping[TopicPartition, int]) -> errors.OffsetsLost:
        first = await self._bounds(asked, 'first')
        end = await self._bounds(asked, 'end')
        facts = {tuple(where): (asked[where], first[where]) for where in asked}
        text = '; '.join(
            f'{topic}/{partition} at {asked[where]}, the log has {first[where]} to {end[where]}'
            for where in asked
            for topic, partition in [where]
        )
        return errors.OffsetsLost(f'Offsets are no longer in the log: {text}', facts)

    def pause(self, partitions: Iterable[base.TopicPartition]) -> None:
        self._held.update(self._owned(partitions))

    def resume(self, partitions: Iterable[base.TopicPartition]) -> None:
        self._held.difference_update(_partitions(partitions))
        look_again(self._consumer)

    def position(self, partition: base.TopicPartition) -> int:
        state = partition_state(self._consumer, TopicPartition(*partition))
        if state is None or not state.has_valid_position:
            raise errors.JournalError(f'{partition.topic}/{partition.partition} is not being read')
        position: int = state.position
        return position

    async def seek(self, positions: base.Offsets) -> None:
        for partition in self._owned(positions):
            self._consumer.seek(partition, positions[partition])

    async def close(self) -> None:
        if self.closing is None:
            self.closing = asyncio.ensure_future(discard_consumer(self._consumer))
        await asyncio.shield(self.closing)

    def _owned(self, partitions: Iterable[base.TopicPartition]) -> list[TopicPartition]:
        return [
            partition
            for partition in _partitions(partitions)
            if partition_state(self._consumer, partition) is not None
        ]

    def _gone(self) -> errors.ConnectionLost:
        if self._lost.done() and self.closing is None:
            return errors.ConnectionLost(str(self._lost.result()))
        return errors.ConnectionLost('The reader is closed')


async def start_consumer(consumer: Any, action: str, timeout_s: float) -> None:
    """Start a consumer, or leave nothing of it behind.

    Raises:
        ConnectionLost: The broker did not answer in time.
    """
    try:
        async with bounded(action, timeout_s):
            await consumer.start()
    except BaseException:
        await discard_consumer(consumer, 0.1)
        raise


def _partitions(partitions: Iterable[base.TopicPartition]) -> list[TopicPartition]:
    return [TopicPartition(*partition) for partition in partitions]
