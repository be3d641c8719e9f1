"""A checkpoint: what finished events have done is committed together with their offsets."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import msgspec

from service_scaffold.journal.base import Member, NewRecord, Producer, Record, TopicPartition
from service_scaffold.streams.outbox import Ensure, Outbox, send_all
from service_scaffold.streams.state import Changes, PartitionState

LOGGER = logging.getLogger(__name__)

PROVEN_S = 5.0
"""After a commit, nobody can have our partitions for so long: half the shortest usual session."""

CHECKPOINT_HEADER = 'c'
"""On a changelog record: the checkpoint that it belongs to, as text."""


class Position(msgspec.Struct, array_like=True, omit_defaults=True):
    """What a store keeps beside its data.

    Attributes:
        offset: Of the next changelog record to read.
        checkpoint: The highest one in it that was not known to be committed; 0: all was.
        whole: The checkpoint of which the store has everything, and of no later one anything. It
            is known of a store that was closed with its task; 0: it is not known.
    """

    offset: int
    checkpoint: int = 0
    whole: int = 0


def write_position(offset: int, checkpoint: int = 0, whole: int = 0) -> bytes:
    """Return what a store keeps."""
    return msgspec.json.encode(Position(offset, checkpoint, whole))


def read_position(data: bytes | None) -> Position | None:
    """Return what a store has kept; None if that is nothing, or of another version than ours."""
    try:
        return None if data is None else msgspec.json.decode(data, type=Position)
    except msgspec.MsgspecError:
        return None


def checkpoint_of(record: Record) -> int:
    """Return the checkpoint that a changelog record belongs to, 0 where they are not numbered."""
    for name, value in record.headers:
        if name == CHECKPOINT_HEADER and value.isdigit():  # else it is not ours
            return int(value)
    return 0


@dataclass
class Snapshot:
    """One moment of a partition: everything that is finished, and nothing else.

    Attributes:
        number: Of the checkpoint; they count up.
        offsets: What is finished of each source.
        notes: What is finished beyond that.
        changes: What has changed in each table.
        sends: What is to be appended, unless it is under way already.
        mark: How much of the outbox belongs to it.
    """

    number: int
    offsets: dict[TopicPartition, int]
    notes: dict[TopicPartition, str]
    changes: list[tuple[PartitionState, Changes]] = field(default_factory=list)
    sends: list[NewRecord] = field(default_factory=list)
    mark: int = 0

    def logged(self, *, numbered: bool) -> tuple[list[NewRecord], list[PartitionState]]:
        """Return the changelog records, and beside each the state that it is of."""
        headers = ((CHECKPOINT_HEADER, str(self.number).encode()),) if numbered else ()
        records: list[NewRecord] = []
        states: list[PartitionState] = []
        for state, changes in self.changes:
            if state.changelog is not None:
                topic, partition = state.changelog
                records += [
                    NewRecord(topic, value, key, headers, partition)
                    for key, value in changes.items()
                ]
                states += [state] * len(changes)
        return records, states


class Committer(ABC):
    """How the effects of finished events leave, and how a snapshot is committed."""

    @abstractmethod
    def send(self, records: list[NewRecord]) -> None:
        """Take what a finished event has sent."""

    @abstractmethod
    def take(self, snapshot: Snapshot) -> None:
        """Note in a snapshot what belongs to it; called at its moment."""

    @abstractmethod
    async def commit(self, snapshot: Snapshot) -> None:
        """Commit a snapshot, and write its changes to the stores.

        Raises:
            GenerationEnded: The partitions may be somebody else's.
            Fenced: They are.
        """

    @property
    @abstractmethod
    def dirty(self) -> bool:
        """Whether something was sent that is not committed."""

    async def close(self) -> None:  # noqa: B027 - optional
        """Let go of what is not committed."""


class AtLeastOnce(Committer):
    """Sends at once; commits offsets when all that belongs to them is confirmed.

    A crash before the offsets are committed repeats events. The changelog records of a checkpoint
    whose offsets were not committed are recognised by their number, and do not count.

    A worker that stood still beyond its session, and whose partitions are somebody else's by now,
    must not log anything any more, as its successor commits the same numbers. So it asks first,
    unless it has committed only just. What is left is a freeze between the answer and the records.

    Args:
        pump: The task that runs the outbox, ours from now on.
        offsets: False under at-most-once, where they are committed before.
        hold: Send nothing before the checkpoint.
    """

    def __init__(
        self,
        member: Member,
        producer: Producer,
        outbox: Outbox,
        pump: asyncio.Task[None],
        ensure: Ensure,
        *,
        offsets: bool = True,
        hold: bool = False,
    ) -> None:
        self._offsets = offsets
        self._hold = hold
        self._held: list[NewRecord] = []
        self._member = member
        self._producer = producer
        self._outbox = outbox
        self._pump = pump
        self._ensure = ensure
        self._proved = -math.inf

    def send(self, records: list[NewRecord]) -> None:
        if self._hold:
            self._held += records
        else:
            self._outbox.put(records)

    def take(self, snapshot: Snapshot) -> None:
        if self._held:
            held, self._held = self._held, []
            self._outbox.put(held)
        snapshot.mark = self._outbox.mark

    @property
    def dirty(self) -> bool:
        return bool(self._held) or not self._outbox.empty

    async def commit(self, snapshot: Snapshot) -> None:
        await self._outbox.delivered(snapshot.mark)
        records, states = snapshot.logged(numbered=True)
        if records and time.monotonic() - self._proved > PROVEN_S:
            await self._member.prove()
        offsets = await send_all(self._producer, records, self._ensure) if records else []
        if snapshot.offsets and self._offsets:
            await self._member.commit(snapshot.offsets, snapshot.notes)
            self._proved = time.monotonic()
        await _settle(snapshot, states, offsets)

    async def close(self) -> None:
        self._outbox.close()
        self._pump.cancel()
        await asyncio.wait({self._pump})


class ExactlyOnce(Committer):
    """Appends outputs, changes and offsets in one transaction per checkpoint."""

    def __init__(self, group: str, member: Member, producer: Producer, ensure: Ensure) -> None:
        self._group = group
        self._member = member
        self._producer = producer
        self._ensure = ensure
        self._records: list[NewRecord] = []

    def send(self, records: list[NewRecord]) -> None:
        self._records += records

    def take(self, snapshot: Snapshot) -> None:
        snapshot.sends, self._records = self._records, []

    @property
    def dirty(self) -> bool:
        return bool(self._records)

    async def commit(self, snapshot: Snapshot) -> None:
        records, states = snapshot.logged(numbered=False)
        producer = self._producer
        await self._ensure(list({record.topic for record in (*snapshot.sends, *records)}))
        await producer.begin()
        try:
            sent = await send_all(producer, [*records, *snapshot.sends], self._ensure)
            if snapshot.offsets:
                await producer.send_offsets(
                    self._group, snapshot.offsets, self._member, snapshot.notes
                )
        except BaseException:
            self._records[:0] = snapshot.sends
            await producer.abort()
            raise
        await producer.commit()
        await _settle(snapshot, states, sent[: len(states)])

    async def close(self) -> None:
        await self._producer.close()


async def _settle(snapshot: Snapshot, states: list[PartitionState], offsets: list[int]) -> None:
    ends: dict[PartitionState, int] = {}
    for state, offset in zip(states, offsets, strict=True):
        ends[state] = offset + 1
    for state, _ in snapshot.changes:
        end = ends.get(state, 0)
        before = read_position(state.store.position)
        await state.settle_aside(write_position(end))
        if state.changelog is not None and before is not None and end <= before.offset:
            LOGGER.error(
                'Table %s, partition %d: its changelog %s was made anew, at %d after %d; what the'
                ' store has is logged again',
                state.table,
                state.partition,
                state.changelog.topic,
                end,
                before.offset,
            )
            state.log_all()
