"""Which partitions belong together: counted when the worker meets the broker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from service_scaffold import errors
from service_scaffold.streams.agent import Agent
from service_scaffold.streams.leader import lead
from service_scaffold.streams.tables.named import tables_in
from service_scaffold.streams.tables.table import Table


class Layout:
    """The agents whose topics exist, by the number of partitions of those.

    Args:
        agents: All of the application.
        tables: All of the application.
        counts: Partitions of each topic that exists.
        default: Partitions of a table that nobody is known to write.

    Attributes:
        counts: Partitions of each topic that exists.
        agents: Those with all their topics, by partition count.
        missing: Topics that are read and do not exist.

    Raises:
        CoPartitionError: Topics of one agent, or of agents that write one table, differ.
    """

    def __init__(
        self,
        agents: Iterable[Agent],
        tables: Iterable[Table],
        counts: Mapping[str, int | None],
        default: int,
    ) -> None:
        self.counts = {topic: count for topic, count in counts.items() if count is not None}
        self.agents: dict[int, list[Agent]] = {}
        self.missing: set[str] = set()
        self._tables = list(tables)
        self._waiting: list[Agent] = []
        self._free: set[str] = set()
        for agent in agents:
            absent = {topic.name for topic in agent.plan.inputs} - self.counts.keys()
            if absent:
                self.missing |= absent
                self._waiting.append(agent)
            else:
                self.agents.setdefault(self._count_of(agent), []).append(agent)
        for table in self._tables:
            table.count = self._table_count(table, default)
        for join in {join for table in self._tables for join in table.joins}:
            join.check()

    @property
    def topics(self) -> frozenset[str]:
        """Every topic to be read."""
        return frozenset(
            topic.name
            for agents in self.agents.values()
            for agent in agents
            for topic in agent.plan.inputs
        )

    def read_by(self, count: int) -> set[str]:
        """Return the topics with so many partitions."""
        return {topic.name for agent in self.agents[count] for topic in agent.plan.inputs}

    def tables(self, count: int) -> list[Table]:
        """Return the tables with so many partitions."""
        return [table for table in self._tables if table.count == count]

    @property
    def counted(self) -> list[Table]:
        """The tables whose number of partitions is known: not those of topics that are missing."""
        return [table for table in self._tables if table.count is not None]

    def _count_of(self, agent: Agent) -> int:
        first, *others = agent.plan.inputs
        for other in others:
            if self.counts[other.name] != self.counts[first.name]:
                raise errors.CoPartitionError(
                    f'Agent {agent.name} joins {self._show(first.name)} and'
                    f' {self._show(other.name)}; make them equal, or bring one of them to the'
                    f' count of the other with group_by(..., partitions=…)'
                )
        return self.counts[first.name]

    def _table_count(self, table: Table, default: int) -> int | None:
        users = [
            agent for agents in self.agents.values() for agent in agents if table in used_by(agent)
        ]
        if table.is_global and table.partitions is not None:
            return table.partitions  # any agent may read it
        sources = [agent.plan.input.name for agent in users]
        for source in sources[1:]:
            if self.counts[source] != self.counts[sources[0]]:
                raise errors.CoPartitionError(
                    f'Table {table.name} is used by agents of {self._show(sources[0])} and of'
                    f' {self._show(source)}; make them equal, or bring one of them to the count of'
                    ' the other with group_by(..., partitions=…)'
                )
        if sources and table.partitions not in (None, self.counts[sources[0]]):
            raise errors.CoPartitionError(
                f'Table {table.name} has {table.partitions} partitions, but an agent of'
                f' {self._show(sources[0])} uses it; declare the same number, or use'
                f' group_by(..., partitions={table.partitions}) in the agent'
            )
        if sources:
            return self.counts[sources[0]]
        if table.partitions is not None:
            return table.partitions
        if any(table in used_by(agent) for agent in self._waiting):
            return None  # its changelog would have to be made anew
        self._free.add(table.name)
        known = [c for c, agents in self.agents.items() if any(a.body is not lead for a in agents)]
        return known[0] if len(known) == 1 else default

    def check_changelogs(self, found: Mapping[str, int | None]) -> None:
        """Compare the tables with the changelogs that exist.

        Raises:
            CoPartitionError: One has another number of partitions than its table.
        """
        for table in self.counted:
            count = found.get(table.changelog)
            if count is not None and table.name in self._free:
                table.count = count  # nobody is known to write it, and so it stays as it was made
            elif count is not None and count != table.count:
                raise errors.CoPartitionError(
                    f'Table {table.name} needs {table.count} partitions, like its topics, but its'
                    f' changelog {table.changelog} has {count}; bring its events to {count} with'
                    f' group_by(..., partitions={count}), or reset the application'
                )

    def _show(self, topic: str) -> str:
        return f'{topic} ({self.counts[topic]} partitions)'


def used_by(agent: Agent) -> Sequence[Table]:
    """Return the tables that an agent's function names, or that its stream looks into.

    A global one that is only looked into is nobody's in particular.
    """
    return [*(table for table in agent.plan.tables if not table.is_global), *tables_in(agent.body)]
