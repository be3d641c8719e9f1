"""Making the topics that are ours to make."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from service_scaffold import errors
from service_scaffold.journal.base import Journal, TopicSpec
from service_scaffold.streams.layout import Layout
from service_scaffold.streams.outbox import Passing
from service_scaffold.streams.registry import workers_topic
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.tables.table import Table
from service_scaffold.streams.topology import Topology

OWN_SUFFIXES = ('-changelog', '-repartition', '-pairs')
"""How the names of topics between agents, and of changelogs, end."""
PARTITIONS = 4
"""Of a topic for which nobody has said a number, where the broker has no default of its own."""


class Topics:
    """The topics of one connection.

    Internal topics and changelogs are made, declared topics only with `partitions`, dead-letter
    topics when they are first needed. Nothing is made where the application must not declare.

    Attributes:
        replies: Topics that answers go to. They belong to those who ask, and go with them.
    """

    def __init__(self, journal: Journal, settings: StreamSettings) -> None:
        self._journal = journal
        self._settings = settings
        self.replies: set[str] = set()
        self._known: set[str] = set()
        self._own: dict[str, TopicSpec] = {}

    @property
    def default(self) -> int:
        """Partitions of a table that nobody is known to write."""
        return self._settings.topic_partitions or PARTITIONS

    async def create_own(self, topology: Topology) -> None:
        """Make what the declared topics say; one that is to be like another waits for that.

        Raises:
            JournalError: The broker refuses.
        """
        for topic in topology.topics.values():
            wanted = topic.internal or topic.options.partitions or topic.like is not None
            if topic.name in self._own or not wanted:
                continue
            count: int | None = self._settings.topic_partitions
            if topic.like is not None and topic.options.partitions is None:
                count = await self._count(topic.like.name)
                if count is None:
                    continue
            self._own[topic.name] = topic.options.spec(
                topic.name, count, self._settings.topic_replicas
            )
        await self._create([spec for name, spec in self._own.items() if name not in self._known])

    async def check_kept(self, layout: Layout) -> None:
        """See that nobody has deleted what is read, or what tables are logged to.

        Raises:
            JournalError: Somebody has. On the next connection our own topics are made again, and
                the others are waited for.
        """
        changelogs = {table.changelog: table.name for table in layout.counted}
        counts = await self._journal.partitions(layout.topics | changelogs.keys())
        gone = [
            f'{topic} (the changelog of table {changelogs[topic]})'
            if topic in changelogs
            else topic
            for topic in sorted(counts)
            if counts[topic] is None
        ]
        if gone:
            raise errors.JournalError(
                f'Deleted while in use: {", ".join(gone)}; events that were there and not handled'
                ' are lost. Topics of our own are made again, others are waited for'
            )

    async def match(self, topology: Topology) -> None:
        """See which topics match the patterns that agents read."""
        if not topology.patterns:
            return
        names = await self._journal.topics()
        prefix = topology.prefixed('')
        own = {topic.name for topic in topology.topics.values() if topic.internal}
        own.add(workers_topic(topology.id))
        own.update(table.changelog for table in topology.tables.values())
        own.update(n for n in names if n.startswith(prefix) and n.endswith(OWN_SUFFIXES))
        own.update(name for name in names if topology.calls.is_own(name))
        for pattern in topology.patterns:
            pattern.match(names, own)

    async def _count(self, topic: str) -> int | None:
        made = self._own.get(topic)
        if made is not None and made.partitions is not None:
            return made.partitions
        return (await self._journal.partitions([topic]))[topic]

    async def create_changelogs(self, tables: Iterable[Table]) -> None:
        """Make a changelog for each table."""
        replicas = self._settings.topic_replicas
        await self._create(
            [table.options.spec(table.changelog, table.count, replicas) for table in tables]
        )

    async def ensure(self, names: Sequence[str]) -> Passing:
        """Make topics that records are about to be appended to, where they are missing.

        Returns:
            Those of `replies`; they go with those who have asked.
        """
        passing = await self._passing(self.replies.intersection(names))
        fresh = [name for name in names if name not in self._known and name not in self.replies]
        if not fresh:
            return passing
        replicas, partitions = self._settings.topic_replicas, self._settings.topic_partitions
        await self._create(
            [self._own.get(name) or TopicSpec(name, partitions, replicas) for name in fresh]
        )
        return passing

    async def _passing(self, names: Collection[str]) -> Passing:
        if not names:
            return Passing()
        counts = await self._journal.partitions(names)
        gone = frozenset(name for name, count in counts.items() if count is None)
        return Passing(counts.keys() - gone, gone)

    async def _create(self, specs: Sequence[TopicSpec]) -> None:
        if specs and self._settings.may_declare:
            await self._journal.create(specs)
        self._known.update(spec.name for spec in specs)
