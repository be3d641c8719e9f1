"""Bringing a store to the end of its changelog."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from service_scaffold import errors
from service_scaffold.journal.base import Isolation, Journal, Record, TopicPartition
from service_scaffold.streams.checkpoint import checkpoint_of, read_position, write_position
from service_scaffold.streams.progress import Progress
from service_scaffold.streams.state import Changes, PartitionState

LOGGER = logging.getLogger(__name__)

BATCH = 5_000
WAIT_S = 0.5
SILENCE_S = 60.0


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
    whole = _is_whole(state, end, committed)
    position = None if whole else _usable(state, first, end, committed)
    start = first if position is None else position
    if start < end:
        progress.begin(start, end)
        await _read(journal, state, where, (start, end), committed, progress, isolation)
    elif position is None:
        await state.restore({}, write_position(end))
    if whole:
        state.log_all()


def _is_whole(state: PartitionState, end: int, committed: int | None) -> bool:
    """Tell whether the store has all that was committed, and the log has lost it.

    Then somebody has deleted the changelog, and nobody has worked on the partition since.
    """
    position = read_position(state.store.position)
    if position is None or position.offset <= end or not committed:
        return False
    if position.whole != committed:
        return False
    LOGGER.error(
        'Table %s, partition %d: its changelog has lost what was in it (it ends at %d, after %d);'
        ' all that the store has is logged again',
        state.table,
        state.partition,
        end,
        position.offset,
    )
    return True


def _usable(state: PartitionState, first: int, end: int, committed: int | None) -> int | None:
    """Return where the store is; empty it, and return None, where it cannot be gone on with."""
    if state.store.position is None:
        return None
    position = read_position(state.store.position)
    place = (state.table, state.partition)
    if position is None:
        LOGGER.warning('Table %s, partition %d: its store has no position; rebuilding', *place)
    elif not first <= position.offset <= end:
        LOGGER.warning(
            'Table %s, partition %d: its store is at %d, the changelog has %d to %d; rebuilding',
            *place,
            position.offset,
            first,
            end,
        )
    elif committed is not None and position.checkpoint > committed:
        # It was a copy, and its owner has given that checkpoint up.
        LOGGER.info('Table %s, partition %d: its copy is ahead of what counts; rebuilding', *place)
    else:
        return position.offset
    state.store.wipe()
    return None


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
    tail = _Tail(committed)
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
            changes = tail.cut_off(records)
            after = records[-1].offset + 1
            await state.restore(changes, tail.position(after))
            progress.advance(after, len(records))
    finally:
        await reader.close()
    await state.restore({}, tail.position(end))
    if tail.void:
        LOGGER.info(
            'Table %s, partition %d: %d changes of an uncommitted checkpoint are taken back',
            state.table,
            state.partition,
            len(tail.void),
        )
        state.apply({key: state.store.get(key) for key in tail.void})


class _Tail:
    """What was logged for a checkpoint whose offsets were never committed.

    The next checkpoint has its number, and these records would count then. So what they are about
    is logged again with it; until that has happened the store stays before them, and whoever comes
    next, after a crash or another rebalance, finds them again.

    Attributes:
        void: The keys of these records.
    """

    def __init__(self, committed: int | None) -> None:
        self.void: set[bytes] = set()
        self._committed = committed
        self._begins: int | None = None

    def position(self, offset: int) -> bytes:
        """Return where a store is that has what counts below `offset`."""
        return write_position(offset if self._begins is None else self._begins)

    def cut_off(self, records: Sequence[Record]) -> Changes:
        """Return what counts of the next records."""
        changes: Changes = {}
        committed, void = self._committed, self.void
        for record in records:
            key = record.key
            if key is None:
                continue
            if committed is not None and checkpoint_of(record) > committed:
                void.add(key)
                if self._begins is None:
                    self._begins = record.offset
                continue
            changes[key] = record.value
            void.discard(key)
        return changes
