"""Joins of two tables: a pair for each key that has changed on either side."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Protocol

from service_scaffold import errors
from service_scaffold.journal.base import NewRecord
from service_scaffold.journal.naming import check_topic_name
from service_scaffold.streams.effects import Effects, Hand, Unit
from service_scaffold.streams.forms import Coder
from service_scaffold.streams.joins import How, check_how
from service_scaffold.streams.pairs import PairSerializer, join_bytes
from service_scaffold.streams.state import Changes, PartitionState
from service_scaffold.streams.topic import Outlet, Topic


class Joined(Protocol):
    """A table that takes part."""

    name: str
    changelog: str
    count: int | None

    @property
    def coders(self) -> tuple[Coder, Coder]: ...

    def changed_keys(self, changes: Changes) -> Iterable[bytes]: ...

    def applied(self, state: PartitionState, key: bytes) -> bytes | None: ...


class TableJoin:
    """Sends `(left, right)` for each key that a finished event has written in one of two tables.

    Both values are those at the moment at which the event's effects count, so that of two agents
    that write the two tables at the same time the later one sees what the other has written.

    Attributes:
        topic: Where the pairs go; it has as many partitions as the tables.
    """

    def __init__(
        self, left: Joined, right: Joined, how: How, name: str | None, outlet: Outlet, key_type: Any
    ) -> None:
        self._left = left
        self._right = right
        self._how = check_how(how)
        chosen = outlet.prefixed(name or f'{left.name}-{right.name}-{how}')
        made = f'{chosen}-pairs'
        check_topic_name(made, 'for pairs of a join of tables; give the join a shorter name=')
        self.topic = Topic(
            made,
            outlet,
            key_type=key_type,
            value_serializer=PairSerializer(left.coders[1], right.coders[1]),
            internal=True,
            like=self,
        )

    @property
    def name(self) -> str:
        """The topic that has as many partitions as the pairs are to have."""
        known = self._right if self._left.count is None else self._left
        return known.changelog

    def check(self) -> None:
        """Compare the tables, once their partitions are known.

        Raises:
            CoPartitionError: They differ.
        """
        left, right = self._left, self._right
        if None not in (left.count, right.count) and left.count != right.count:
            raise errors.CoPartitionError(
                f'Table {left.name} ({left.count} partitions) is joined to table {right.name}'
                f' ({right.count} partitions); make them equal, or bring the events of one of them'
                ' to the count of the other with group_by(..., partitions=…)'
            )

    def watch(self, table: Joined, hand: Hand, state: PartitionState) -> None:
        """An event is about to write the first key of one of the tables."""
        event = hand.event
        at_ms = None if event is None else event.timestamp_ms
        effects = hand.effects
        effects.then.append(partial(self._applied, table, hand.unit, effects, state, at_ms))

    def _applied(
        self, table: Joined, unit: Unit, effects: Effects, state: PartitionState, at_ms: int | None
    ) -> None:
        left, right = (_state(unit, side) for side in (self._left, self._right))
        keys: Iterable[bytes] = table.changed_keys(effects.writes[state])
        if table is self._right and left is not None and left in effects.writes:
            told = set(self._left.changed_keys(effects.writes[left]))
            keys = [key for key in keys if key not in told]
        pairs = Effects()
        for key in keys:
            ours = None if left is None else self._left.applied(left, key)
            theirs = None if right is None else self._right.applied(right, key)
            if self._wanted(ours is not None, theirs is not None):
                value = join_bytes(ours, theirs)
                record = NewRecord(self.topic.name, value, key, (), state.partition, at_ms)
                pairs.sends.append(record)
        unit.apply(pairs)

    def _wanted(self, left: bool, right: bool) -> bool:
        if self._how == 'inner':
            return left and right
        return left if self._how == 'left' else left or right


def _state(unit: Unit, table: Joined) -> PartitionState | None:
    try:
        return unit.state(table)
    except errors.CoPartitionError:
        return None  # its topics do not exist yet: it is empty
