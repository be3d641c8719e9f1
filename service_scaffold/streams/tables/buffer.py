"""What a join of two streams remembers, kept and logged like a table."""

from __future__ import annotations

from service_scaffold.journal.naming import check_topic_name
from service_scaffold.streams.join_rows import JoinRows
from service_scaffold.streams.joins import Join, Pairing
from service_scaffold.streams.state import PartitionState
from service_scaffold.streams.tables.keeper import Keeper
from service_scaffold.streams.tables.table import Table


class JoinBuffer(Table):
    """The values that wait for partners; see `join_rows` for how they lie there.

    Args:
        join: Whose they are.
        changelog: Name of the topic with its changes.
    """

    internal = True

    def __init__(self, join: Join, name: str, changelog: str) -> None:
        check_topic_name(changelog, f'of what {join.mover} remembers; give it a shorter name=')
        super().__init__(
            name,
            changelog,
            key_serializer='raw',
            value_serializer='raw',
            help=f'Values of {join.mover} that wait for partners.',
        )
        self._owner = join

    @property
    def late(self) -> int:
        """How many values came when their time had passed already."""
        return self._owner.late

    def keeper(self, state: PartitionState) -> JoinKeeper:
        """Return what lets time pass in a partition while no event comes."""
        return JoinKeeper(self._owner, state)


class JoinKeeper(Keeper):
    """Passes on what has found no partner when time goes on without an event.

    Where events come they do that themselves, so that the order is the same in every run.
    """

    def __init__(self, join: Join, state: PartitionState) -> None:
        super().__init__(state, join.idle_s)
        self._join = join

    async def _sweep(self, limit_ms: int) -> None:
        while not Pairing(self._join, self.state, self.hand.effects).advance(limit_ms):
            self.hand.apply()
            await self.turn()
            if self.held:
                return

    def _next_ms(self) -> int | None:
        kept_ms = self._join.kept_ms
        rows = JoinRows(self.state, {})
        oldest = rows.oldest(rows.now - kept_ms)
        return None if oldest is None else oldest + kept_ms + 1
