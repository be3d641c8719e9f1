"""Beginning anew: deleting all that is an application's own, so that it reads its topics again."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service_scaffold import errors
from service_scaffold.journal.base import Journal, RebalanceListener, TopicPartition
from service_scaffold.streams.registry import workers_topic
from service_scaffold.streams.stores import claim, files
from service_scaffold.streams.stores.directory import held_by
from service_scaffold.streams.topics import OWN_SUFFIXES
from service_scaffold.streams.topology import Topology

GONE_S = 15.0
LOOK_EVERY_S = 0.05


@dataclass(frozen=True)
class OwnTopic:
    """A topic to be deleted.

    Attributes:
        records: How many offsets it spans: the most that it can hold.
    """

    name: str
    partitions: int
    records: int


@dataclass(frozen=True)
class Reset:
    """What is there to be deleted.

    Attributes:
        group: Whose commits are forgotten.
        commits: What it has committed of the topics that are read, per `topic/partition`.
        topics: Changelogs, topics between agents, agents' own topics, topics of answers and of
            workers.
        directories: Local stores of workers on this machine.
        members: Who is at work; nothing can be deleted until they have stopped.
        holders: The processes that hold local stores, by directory.
        former: Topics that look like the application's own, and that nothing declares: of a
            version before, or of another application whose id begins like this one. They are left.
    """

    group: str
    commits: dict[str, int]
    topics: tuple[OwnTopic, ...]
    directories: tuple[Path, ...]
    members: tuple[str, ...]
    former: tuple[str, ...] = ()
    holders: Mapping[Path, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, fit for JSON."""
        return {
            'group': self.group,
            'commits': self.commits,
            'topics': [
                {'name': t.name, 'partitions': t.partitions, 'records': t.records}
                for t in self.topics
            ],
            'directories': [str(path) for path in self.directories],
            'members': list(self.members),
            'processes': {str(path): pid for path, pid in self.holders.items()},
            'left': list(self.former),
        }

    def lines(self) -> Iterator[str]:
        """Yield what is deleted, for people."""
        for topic in self.topics:
            size = f'{_count(topic.partitions, "partition")}, {_count(topic.records, "record")}'
            yield f'topic      {topic.name} ({size})'
        if self.commits:
            partitions = _count(len(self.commits), 'partition')
            yield f'commits    of group {self.group}: {partitions}'
        for path in self.directories:
            yield f'directory  {path}'

    def at_work(self) -> Iterator[str]:
        """Yield who has to be stopped before: members of the group, and processes here."""
        yield from self.members
        for path, pid in self.holders.items():
            yield f'process {pid}, in {path}'

    @property
    def empty(self) -> bool:
        """Whether there is nothing to be deleted."""
        return not (self.commits or self.topics or self.directories)


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'


def refuse(found: Reset) -> None:
    """Raise when something of an application is at work.

    Raises:
        StreamError: It names who.
    """
    if found.members or found.holders:
        workers = _count(max(len(found.members), len(found.holders)), 'worker')
        raise errors.StreamError(
            f'{workers} of {found.group} at work, to be stopped first: {"; ".join(found.at_work())}'
        )


async def look(topology: Topology, journal: Journal) -> Reset:
    """Return what a reset of an application would delete. Nothing is changed.

    Raises:
        StreamError: What it consists of cannot be found out.
        ConnectionLost: The broker does not answer.
    """
    await topology.discover()
    group = topology.id
    directories = tuple(sorted(_directories(topology)))
    return Reset(
        group,
        await _commits(topology, journal),
        await _own_topics(topology, journal),
        directories,
        tuple(await journal.members(group)),
        await _former(topology, journal),
        _holders(directories),
    )


async def reset(topology: Topology, journal: Journal, found: Reset) -> None:
    """Delete it. What is interrupted is finished by doing it again.

    Raises:
        StreamError: Workers of the application are at work; nothing was deleted.
        JournalError: One has begun meanwhile.
    """
    members = tuple(await journal.members(found.group))
    refuse(dataclasses.replace(found, members=members, holders=_holders(found.directories)))
    with _claimed(topology, found.directories):
        # First the commits: a worker that begins meanwhile keeps the broker from forgetting them.
        await journal.forget(found.group)
        names = [topic.name for topic in found.topics]
        await journal.delete(names)
        for path in found.directories:
            await asyncio.to_thread(shutil.rmtree, path)
        await _until_gone(journal, names)


async def _own_topics(topology: Topology, journal: Journal) -> tuple[OwnTopic, ...]:
    named = _declared(topology)
    listed = await journal.topics(topology.prefixed(''))
    named |= {name for name in listed if topology.calls.is_own(name)}
    counts = await journal.partitions(sorted(named))
    found = [(name, count) for name, count in counts.items() if count is not None]
    return tuple([OwnTopic(*one, await _records(journal, *one)) for one in found])


def _declared(topology: Topology) -> set[str]:
    """Return the names of topics that the application has made for itself alone.

    Never by the beginning of a name: what begins like ours may be of another application.
    """
    tables = topology.tables.values()
    names = {topic.name for topic in topology.topics.values() if topic.internal}
    names.add(workers_topic(topology.id))
    names |= {join.topic.name for table in tables for join in table.joins}
    names |= {table.changelog for table in tables}
    # What users have declared is theirs, also when a table's changes go there.
    return names - {topic.name for topic in topology.topics.values() if not topic.internal}


async def _former(topology: Topology, journal: Journal) -> tuple[str, ...]:
    declared = _declared(topology) | topology.topics.keys()
    listed = await journal.topics(topology.prefixed(''))
    return tuple([n for n in listed if n.endswith(OWN_SUFFIXES) and n not in declared])


async def _records(journal: Journal, topic: str, count: int) -> int:
    where = [TopicPartition(topic, number) for number in range(count)]
    first, end = await journal.offsets(where, 'first'), await journal.offsets(where, 'end')
    return sum(end[one] - first[one] for one in where)


async def _commits(topology: Topology, journal: Journal) -> dict[str, int]:
    counts = await journal.partitions(topology.sources)
    where = [
        TopicPartition(name, number)
        for name, count in counts.items()
        for number in range(count or 0)
    ]
    if not where:
        return {}
    member = await journal.member(topology.id, _Nobody())
    try:
        found = await member.committed(where)
    finally:
        await member.close()
    return {
        f'{one.topic}/{one.partition}': commit.offset
        for one, commit in found.items()
        if commit is not None
    }


class _Nobody(RebalanceListener):
    """Listens for a member that never subscribes."""

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None: ...

    async def on_assigned(self, partitions: frozenset[TopicPartition]) -> None: ...


def _directories(topology: Topology) -> Iterator[Path]:
    home = topology.settings.directory / files.safe_name(topology.id)
    for path in home.glob('worker-*'):
        if path.is_dir() and path.name.removeprefix('worker-').isdigit():
            yield path


def _holders(directories: Iterable[Path]) -> dict[Path, str]:
    found = {path: held_by(path) for path in directories}
    return {path: pid for path, pid in found.items() if pid is not None}


@contextlib.contextmanager
def _claimed(topology: Topology, directories: Iterable[Path]) -> Iterator[None]:
    """Hold the directories, so that no worker of this machine begins in one."""
    with contextlib.ExitStack() as held:
        for path in directories:
            slot = int(path.name.removeprefix('worker-'))
            held.enter_context(claim(topology.settings.directory, topology.id, slot=slot))
        yield


async def _until_gone(journal: Journal, topics: list[str]) -> None:
    """Wait until the broker has deleted them: a worker that begins must not find them.

    Raises:
        TimeoutError: Some are still there.
    """
    left = set(topics)
    try:
        async with asyncio.timeout(GONE_S):
            while left := await _there(journal, left):  # noqa: ASYNC110 - the broker does not tell
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError:
        raise TimeoutError(
            f'{", ".join(sorted(left))}: to be deleted, and still there after {GONE_S:g} s; wait'
            ' for that before a worker is started'
        ) from None


async def _there(journal: Journal, topics: Iterable[str]) -> set[str]:
    counts = await journal.partitions(topics)
    return {topic for topic, count in counts.items() if count is not None}
