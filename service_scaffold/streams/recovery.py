"""Bringing a store to the end of its changelog."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from service_scaffold import errors
from service_scaffold.journal.base import Isolation, Journal, Record, TopicPartition
from service_scaffold.streams.checkpoint import (
    CHECKPOINT_HEADER,
    read_position,
    write_position,
)
from service_scaffold.streams.state import Changes, PartitionState

LOGGER = logging.getLogger(__name__)

BATCH = 5_000
WAIT_S = 0.5
SILENCE_S = 60.0


@dataclass
class Progress:
    """How far the recovery of one partition is.

    Attributes:
        read: Changelog records so far.
        total: How many there were at its start, counted in offsets.
    """

    read: int = 0
    total: int = 0


async def recover(
    journal: Journal,
    state: PartitionState,
    committed: int | None,
    progress: Progress,
    isolation: Isolation = 'read_committed',
) -> None:
    """Read what the store does not have yet.

    Args:
        committed: The last checkpoint whose offsets were committed. Records of later ones do not
            count; what they were about is logged again with the next checkpoint. None: all count.

    Raises:
        ConnectionLost: The connection has ended.
        StreamError: Nothing has come for a minute although there should be more.
    """
    where = state.changelog
    if where is None:
        return
    end = (await journal.offsets([where], 'end'))[where]
    first = (await journal.offsets([where], 'first'))[where]
    position = read_position(state.store.position)
    if position is not None and not first <= position <= end:
        LOGGER.warning(
            'Table %s, partition %d: its store is at %d, the changelog has %d to %d; rebuilding',
            state.table,
            state.partition,
            position,
            first,
            end,
        )
        state.store.wipe()
        position = None
    start = first if position is None else position
    progress.total = max(0, end - start)
    if start < end:
        await _read(journal, state, where, (start, end), committed, progress, isolation)
    if position is None or start < end:
        state.restore({}, write_position(end))


async def _read(
    journal: Journal,
    state: PartitionState,
    where: TopicPartition,
    span: tuple[int, int],
    committed: int | None,
    progress: Progress,
    isolation: Isolation,
) -> None:
    start, end = span
    reader = await journal.reader(isolation=isolation)
    void: set[bytes] = set()
    silent_s = 0.0
    try:
        await reader.assign({where: start})
        while reader.position(where) < end:
            records = await reader.fetch(BATCH, WAIT_S)
            if not records:
                silent_s += WAIT_S
                if silent_s >= SILENCE_S:
                    raise errors.StreamError(
                        f'{where.topic}/{where.partition}: no record after'
                        f' {reader.position(where)} for {SILENCE_S:g} s, expected up to {end}'
                    )
                continue
            silent_s = 0.0
            changes = _changes(records, committed, void)
            progress.read += len(records)
            state.restore(changes, write_position(records[-1].offset + 1))
    finally:
        await reader.close()
    if void:
        LOGGER.info(
            'Table %s, partition %d: %d changes of an uncommitted checkpoint are taken back',
            state.table,
            state.partition,
            len(void),
        )
        state.apply({key: state.store.get(key) for key in void})


def _changes(records: Sequence[Record], committed: int | None, void: set[bytes]) -> Changes:
    changes: Changes = {}
    for record in records:
        key = record.key
        if key is None:
            continue
        if committed is not None and _checkpoint(record) > committed:
            void.add(key)
            continue
        changes[key] = record.value
        void.discard(key)
    return changes


def _checkpoint(record: Record) -> int:
    for name, value in record.headers:
        if name == CHECKPOINT_HEADER:
            return int(value)
    return 0
