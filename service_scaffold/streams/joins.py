"""Joins: values of two streams with the same key and about the same time, as pairs."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Literal, Protocol, cast

from service_scaffold import errors
from service_scaffold.journal.base import NewRecord
from service_scaffold.streams.effects import LANE, Effects, Hand
from service_scaffold.streams.event import Event
from service_scaffold.streams.join_rows import NEVER, JoinRows, Row
from service_scaffold.streams.pairs import join_bytes
from service_scaffold.streams.plan import Hop, Moved, Plan, Source
from service_scaffold.streams.spans import Span, milliseconds
from service_scaffold.streams.state import PartitionState
from service_scaffold.streams.steps import Kind, Step, looked_into
from service_scaffold.streams.stream_time import is_time

How = Literal['inner', 'left', 'outer']
"""What becomes of a value without a partner: nothing; a left one is passed on; each is."""

AT_ONCE = 256
"""So many values are passed on and forgotten before others get their turn."""

_LONELY = {'inner': (False, False), 'left': (True, False), 'outer': (True, True)}


class Side(Protocol):
    """A declared stream that takes part in a join."""

    source: Source
    hops: tuple[Hop, ...]
    steps: tuple[Step, ...]

    @property
    def kind(self) -> Kind: ...


class Join(Hop):
    """Puts the values of two topics together.

    Values with equal keys, whose timestamps differ by `within` at most, become a pair
    `(left, right)` in a topic of our own, at the later one's time. A value is remembered until the
    stream time, the highest timestamp seen in its partition, is more than `within + grace` after
    it; only then one that was in no pair is passed on with None (`how`).

    Attributes:
        within_ms: How much the times of a pair may differ.
        kept_ms: How long a value waits for a partner.
        how: What becomes of one without.
        idle_s: Seconds without an event after which time follows the clock; None: never.
        on_late: Told of values that come when their time has passed already, or sent them.
        late: Values that came when their time had passed already; counted since the start.
        table: What is remembered.
    """

    joins = True

    def __init__(
        self,
        left: Side,
        right: Side,
        within_ms: int,
        grace_ms: int,
        how: How,
        name: str | None,
        idle_s: float | None = None,
        on_late: Any = None,
    ) -> None:
        chosen = name or f'{_short(left.source)}-{_short(right.source)}-{how}'
        target = left.source.paired(chosen, left.kind, right.kind)
        super().__init__(chosen, left.source, target)
        self.within_ms = within_ms
        self.kept_ms = within_ms + grace_ms
        self.how = how
        self.idle_s = idle_s
        self.on_late = on_late
        self.late = 0
        self._sides = (left, right)
        self._encode = (left.kind.coder.encode, right.kind.coder.encode)
        self._keeps = _LONELY[how]

    @property
    def plan(self) -> Plan:
        """Both topics, and what is remembered."""
        left, right = self._sides
        tables = (self.table, *looked_into((*left.steps, *right.steps)))
        return Plan(self.source, others=(right.source,), tables=tables)

    @property
    def before(self) -> tuple[Hop, ...]:
        """What brings the events of the right side to their topic."""
        return self._sides[1].hops

    def same_as(self, other: Hop) -> bool:
        """Whether it is the same join, declared twice."""
        return self is other or (isinstance(other, Join) and self._shape == other._shape)

    @property
    def _shape(self) -> tuple[Any, ...]:
        left, right = self._sides
        steps = (*left.steps, *right.steps)
        names = left.source.name, right.source.name
        return *names, self.within_ms, self.kept_ms, self.how, self.idle_s, self.on_late, steps

    async def move(self, stream: Moved) -> None:
        """Join: the body of an agent of our own."""
        left, right = self._sides
        topics = (left.source.name, right.source.name)
        async for event in stream.events():
            for number, side in enumerate(self._sides):
                if topics[number] != event.topic:
                    continue
                seen: Event | None = event
                value = event.message.value
                if side.steps:
                    seen = await _through(side, event)
                    value = None if seen is None else self._encode[number](seen.value)
                if seen is not None:
                    await self._take(number, seen, value)

    async def _take(self, side: int, event: Event, value: bytes | None) -> None:
        hand = LANE.get()
        assert hand is not None
        state = hand.unit.state(self.table)
        if not is_time(event.timestamp_ms):
            names = ' and '.join(side.source.name for side in self._sides)
            raise errors.StreamError(
                f'Join of {names}: {event.timestamp_ms} ms since the epoch is no time'
            )
        await self._go_on(hand, state, event.timestamp_ms)
        if value is None:
            return
        key = event.message.key
        row = Row(side, key or b'', event.timestamp_ms, event.offset)
        if Pairing(self, state, hand.effects).take(row, value, keyed=key is not None):
            hand.effects.then.append(self._count_late)
            await self._tell(event)
        if state.keeper is not None:
            state.keeper.due_at(hand, row.at + self.kept_ms + 1)

    def _count_late(self) -> None:
        self.late += 1

    async def _tell(self, event: Event) -> None:
        target = self.on_late
        if target is None:
            return
        if not callable(target):
            await event.forward(getattr(target, 'topic', target))
        elif inspect.isawaitable(answer := target(event.key, event)):
            await answer

    async def _go_on(self, hand: Hand, state: PartitionState, ms: int) -> None:
        """Let it be `ms`, or later.

        What has waited long enough is no part of the event that has moved the time: it is applied
        on the way, so that a long silence does not end in one huge step.
        """
        while True:
            effects = Effects()
            done = Pairing(self, state, effects).advance(ms)
            hand.unit.apply(effects)
            if done:
                return
            await asyncio.sleep(0)

    def keeps(self, side: int) -> bool:
        """Whether a value of this side is passed on without a partner."""
        return self._keeps[side]


class Pairing:
    """One moment of a join in one partition; what it does goes into `effects`."""

    def __init__(self, join: Join, state: PartitionState, effects: Effects) -> None:
        self._join = join
        self._partition = state.partition
        self._sends = effects.sends
        self._rows = JoinRows(state, effects.writes.setdefault(state, {}))

    def advance(self, ms: int) -> bool:
        """Let it be `ms`, or later: pass on and forget what has waited long enough.

        Returns:
            False: There is more of that; apply what was done, and call again.
        """
        rows, join = self._rows, self._join
        if ms <= rows.now:
            return True
        due = rows.between(rows.now - join.kept_ms, ms - join.kept_ms, AT_ONCE)
        for row, paired in due:
            if not paired and join.keeps(row.side):
                value = rows.value(row)
                if value is not None:
                    self._emit(row, value)
            rows.forget(row)
        if len(due) >= AT_ONCE:
            rows.now = due[-1][0].at + join.kept_ms
            return False
        rows.now = ms
        return True

    def take(self, row: Row, value: bytes, *, keyed: bool) -> bool:
        """Put a value together with those that wait for it, and let it wait for others.

        Returns:
            Whether it comes too late to wait for others.
        """
        rows, join = self._rows, self._join
        found: list[tuple[Row, bytes]] = []
        if keyed:
            first, last = row.at - join.within_ms, row.at + join.within_ms
            found = rows.find(1 - row.side, row.key, first, last)
        for other, partner in found:
            self._emit(row, value, other.at, partner)
            if join.keeps(other.side):
                rows.pair(other)
        if keyed and row.at >= rows.now - join.kept_ms:
            rows.put(row, value, paired=bool(found))
            return False
        if not found and join.keeps(row.side):
            self._emit(row, value, keyed=keyed)
        return keyed

    def _emit(
        self,
        row: Row,
        value: bytes,
        at: int = NEVER,
        partner: bytes | None = None,
        *,
        keyed: bool = True,
    ) -> None:
        pair = (partner, value) if row.side else (value, partner)
        key = row.key if keyed else None
        self._sends.append(
            NewRecord(
                self._join.target.name,
                join_bytes(*pair),
                key,
                (),
                self._partition,
                max(row.at, at),
            )
        )


def _short(topic: Source) -> str:
    """Return the name of a topic without what is common to all of our own."""
    own = topic.prefixed.removesuffix(topic.name)
    short = topic.name.removeprefix(own)
    return (
        short.removesuffix('-repartition').removesuffix('-pairs') if short != topic.name else short
    )


async def _through(side: Side, event: Event) -> Event | None:
    seen = side.source.decode(event.message, cast(Any, event._lane))
    for step in side.steps:
        if await step(seen) is None:
            return None
    return seen


def check_how(how: How) -> How:
    """Return it; a ValueError if it is none of them."""
    if how not in _LONELY:
        raise ValueError(f"how must be 'inner', 'left' or 'outer', not {how!r}")
    return how


def join_of(
    left: Side,
    right: Side,
    within: Span | None,
    grace: Span,
    how: How,
    name: str | None,
    idle_advance: Span | None,
    on_late: Any = None,
) -> Callable[[str], Join]:
    """Return what makes a join, once it is known for whom.

    Raises:
        TypeError: `within` is missing, or `on_late` neither a function nor something to send to.
        ValueError: `how` is unknown, or a span negative.
    """
    if within is None:
        raise TypeError('A join of two streams needs within=, in seconds')
    if not (on_late is None or callable(on_late) or hasattr(on_late, 'send')):
        raise TypeError(f'on_late takes a function, a topic or an agent, not {on_late!r}')
    check_how(how)
    within_ms, grace_ms = milliseconds('within', within), milliseconds('grace', grace)
    idle_s = None if idle_advance is None else milliseconds('idle_advance', idle_advance) / 1000
    return lambda _: Join(left, right, within_ms, grace_ms, how, name, idle_s, on_late)
