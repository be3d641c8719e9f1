"""Consumer groups in memory: generations, rebalances, committed offsets."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Coroutine, Hashable, Iterable, Mapping
from typing import Any, Protocol

from service_scaffold import errors
from service_scaffold.journal.base import Commit, TopicPartition
from service_scaffold.journal.memory_assignment import assign
from service_scaffold.journal.memory_broker import MemoryBroker


class GroupMember(Protocol):
    """What the group asks of, and tells, each member."""

    generation: int

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def topics(self) -> frozenset[str]:
        """What it subscribes to."""

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        """What it believes to have."""

    @property
    def max_pause_s(self) -> float:
        """How long it may be silent."""

    @property
    def fetched_at(self) -> float:
        """When it last asked for records (monotonic)."""

    async def revoke(self, partitions: frozenset[TopicPartition]) -> None:
        """Let go of partitions."""

    async def give(self, partitions: frozenset[TopicPartition]) -> None:
        """Take partitions over."""

    def fail(self, error: BaseException) -> None:
        """Take note that `revoke` or `give` has raised."""

    def __hash__(self) -> int: ...


class Group:
    """One consumer group. It outlives its members, with the offsets that they committed.

    A rebalance runs whenever somebody comes or goes, in a task of its own and not in that of
    whoever caused it: cancelling one member must not disturb another. First those who lose
    partitions are told, then a new generation begins, then those who gain some are told.

    Attributes:
        offsets: What is committed.
        generation: Number of the current generation, from 1.
    """

    def __init__(self, name: str, broker: MemoryBroker) -> None:
        self.name = name
        self.offsets: dict[TopicPartition, Commit] = {}
        self.generation = 0
        self._broker = broker
        self._pending: dict[Hashable, frozenset[TopicPartition]] = {}
        self._owned: dict[GroupMember, frozenset[TopicPartition]] = {}
        self._unbalanced = False
        self._rebalancing: asyncio.Task[None] | None = None
        self._late: set[asyncio.Task[None]] = set()

    @property
    def members(self) -> tuple[GroupMember, ...]:
        """The members, in order of joining."""
        return tuple(self._owned)

    def join(self, member: GroupMember) -> None:
        """Take a member in, or take note that it wants other topics."""
        self.look_after()
        self._owned.setdefault(member, frozenset())
        self.rebalance()

    def leave(self, member: GroupMember) -> None:
        """Let a member go; its partitions go to the others. Nobody else is a no-op."""
        if self._owned.pop(member, None) is not None:
            member.generation = -1
            self.rebalance()

    def evict(self, member: GroupMember) -> None:
        """Throw a member out, as a broker does that has not heard of it for too long.

        It learns of it when it next asks for something, and joins again with its next fetch.
        """
        self.leave(member)

    def look_after(self) -> None:
        """Evict the members that have been silent for longer than they may."""
        now = self._broker.clock.monotonic()
        for member in self.members:
            if now - member.fetched_at > member.max_pause_s:
                self.evict(member)

    def check(self, member: GroupMember | None, partitions: Iterable[TopicPartition]) -> None:
        """Make sure that `member` may commit offsets of `partitions`.

        One that has never subscribed may, as long as the group is empty.

        Raises:
            GenerationEnded: They are, or may soon be, someone else's.
        """
        if member is None or not (member.topics or self._owned):
            return
        self.look_after()
        owned = self._owned.get(member, frozenset())
        strange = frozenset(partitions) - owned
        if strange:
            raise errors.GenerationEnded(
                f'Group {self.name} has rebalanced: {_names(strange)} is not with this member any'
                ' more'
            )

    def commit(self, commits: Mapping[TopicPartition, Commit]) -> None:
        """Store offsets with their notes; `check` comes first."""
        self.offsets.update(commits)

    def hold(self, transaction: Hashable, partitions: Iterable[TopicPartition]) -> None:
        """Let nobody know the offsets of `partitions` until `transaction` is released."""
        self._pending[transaction] = self._pending.get(transaction, frozenset()).union(partitions)

    def release(self, transaction: Hashable) -> None:
        """The transaction has ended: its offsets are committed, or dropped."""
        held = self._pending.pop(transaction, frozenset())
        self._broker.wake({where.topic for where in held})

    async def wait_until_stable(
        self, partitions: Iterable[TopicPartition], timeout_s: float
    ) -> None:
        """Wait until no open transaction can change the offsets of `partitions`.

        Raises:
            JournalError: It has not ended within `timeout_s` of the clock.
        """
        wanted = frozenset(partitions)
        topics = frozenset(where.topic for where in wanted)
        deadline = self._broker.clock.monotonic() + timeout_s
        while held := wanted.intersection(itertools.chain(*self._pending.values())):
            left_s = deadline - self._broker.clock.monotonic()
            if left_s <= 0:
                raise errors.JournalError(
                    f'reading offsets of group {self.name}: an open transaction may change'
                    f' {_names(held)}, and has not ended within {timeout_s:g} s'
                )
            await self._broker.wait_for_records(topics, left_s)

    @property
    def names(self) -> list[str]:
        """What people call the members; those that have been silent for too long are left out."""
        self.look_after()
        return sorted(member.name for member in self._owned)

    def forget(self) -> None:
        """Drop all offsets.

        Raises:
            JournalError: There are members.
        """
        if self.names:
            raise errors.JournalError(f'Group {self.name} has members; stop them first')
        self.offsets.clear()

    def forget_topic(self, topic: str) -> None:
        """Drop the offsets of a deleted topic."""
        self.offsets = {where: o for where, o in self.offsets.items() if where.topic != topic}

    def wants(self, topic: str) -> bool:
        """Tell whether any member subscribes to a topic."""
        return any(topic in member.topics for member in self._owned)

    def rebalance(self) -> None:
        """Share the partitions anew, soon."""
        self._unbalanced = bool(self._owned)
        task = self._rebalancing
        if not self._owned:
            return
        if task is None or task.done() or task.get_loop().is_closed():
            self._rebalancing = asyncio.get_running_loop().create_task(
                self._rebalance(), name=f'rebalance {self.name}'
            )

    async def settled(self) -> None:
        """Wait until no rebalance is under way."""
        while self._rebalancing is not None and not self._rebalancing.done():
            await asyncio.wait({self._rebalancing})

    async def _rebalance(self) -> None:
        losers: set[GroupMember] = set()
        while self._unbalanced:
            self._unbalanced = False
            plan = self._plan()
            leaving = {
                member: member.assignment - (plan[member] & owned)
                for member, owned in self._owned.items()
            }
            await self._tell({m: m.revoke(leaving[m]) for m in leaving if leaving[m]})
            losers |= {member for member, partitions in leaving.items() if partitions}
            for member in self._owned:
                self._owned[member] -= leaving.get(member, frozenset())
            if self._unbalanced:
                continue  # somebody came or went meanwhile: share among those who are here now
            self.generation += 1
            coming = {member: plan[member] - owned for member, owned in self._owned.items()}
            for member in self._owned:
                self._owned[member] = plan[member]
            told = [m for m in self._owned if m.generation < 0 or coming[m] or m in losers]
            for member in self._owned:
                member.generation = self.generation
            await self._tell({m: m.give(coming[m]) for m in told})
            losers.clear()
            self._broker.wake()

    def _plan(self) -> dict[GroupMember, frozenset[TopicPartition]]:
        counts = {
            name: len(topic.partitions)
            for name, topic in self._broker.topics.items()
            if self.wants(name)
        }
        return assign({member: member.topics for member in self._owned}, counts, self._owned)

    async def _tell(self, calls: dict[GroupMember, Coroutine[Any, Any, None]]) -> None:
        """Await what each member does about its partitions; evict who takes too long."""
        running = {asyncio.ensure_future(call): member for member, call in calls.items()}
        for task, member in running.items():
            task.add_done_callback(functools.partial(_note, member))
        if not running:
            return
        limit_s = max(member.max_pause_s for member in calls)
        alarm = asyncio.ensure_future(self._broker.clock.sleep(limit_s))
        pending = set(running)
        while pending and not alarm.done():
            await asyncio.wait({*pending, alarm}, return_when=asyncio.FIRST_COMPLETED)
            pending = {task for task in pending if not task.done()}
        alarm.cancel()
        for task in pending:
            self._late.add(task)  # it goes on by itself, as it would in another process
            task.add_done_callback(self._late.discard)
            self.evict(running[task])


def _note(member: GroupMember, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        member.fail(error)


class Groups:
    """Every group of a broker by name."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._groups: dict[str, Group] = {}
        broker.on_topic.append(self._topic_changed)

    def __getitem__(self, name: str) -> Group:
        if name not in self._groups:
            self._groups[name] = Group(name, self._broker)
        return self._groups[name]

    def _topic_changed(self, topic: str) -> None:
        for group in self._groups.values():
            if topic not in self._broker.topics:
                group.forget_topic(topic)
            if group.wants(topic):
                group.rebalance()


def _names(partitions: Iterable[TopicPartition]) -> str:
    return ', '.join(f'{topic}/{number}' for topic, number in sorted(partitions))
