"""Consumer groups of the journal in memory: sharing, generations, fencing."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold import errors
from service_scaffold.journal.base import (
    Commit,
    NewRecord,
    RebalanceListener,
    TopicPartition,
    TopicSpec,
)
from service_scaffold.journal.memory import MemoryJournal
from service_scaffold.journal.memory_assignment import assign
from service_scaffold.journal.memory_group import Groups


def parts(*numbers: int, topic: str = 'orders') -> frozenset[TopicPartition]:
    return frozenset(TopicPartition(topic, number) for number in numbers)


class Diary(RebalanceListener):
    """A rebalance listener that writes down what it is told."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, set[int], int]] = []
        self.member = None
        self.before_leaving = None

    async def on_revoked(self, partitions):
        self._note('revoked', partitions)
        if self.before_leaving is not None:
            await self.before_leaving(partitions)

    async def on_assigned(self, partitions):
        self._note('assigned', partitions)

    def _note(self, what, partitions):
        numbers = {where.partition for where in partitions}
        self.entries.append((what, numbers, self.member.generation))


@pytest.fixture
async def group(journal, broker):
    """The group `g` over a topic of four partitions."""
    await journal.create([TopicSpec('orders', 4)])
    return broker.companion(Groups, Groups)['g']


@pytest.fixture
def join(journal, group):
    """Let a member join; return it and its diary when the partitions are shared."""

    async def join(journal=journal, topics=('orders',), **options):
        diary = Diary()
        diary.member = member = await journal.member('g', diary, **options)
        await member.subscribe(topics)
        await group.settled()
        return member, diary

    return join


async def append(journal, value: bytes, *numbers: int) -> None:
    producer = await journal.producer()
    await producer.produce([NewRecord('orders', value, partition=n) for n in numbers])


class TestSharing:
    async def test_the_first_member_has_everything(self, join):
        member, diary = await join()

        assert member.assignment == parts(0, 1, 2, 3)
        assert diary.entries == [('assigned', {0, 1, 2, 3}, 1)]

    async def test_a_second_one_takes_half_and_the_first_is_told_before(self, join):
        first, diary = await join()
        second, other = await join()

        assert first.assignment == parts(0, 1)
        assert second.assignment == parts(2, 3)
        assert diary.entries[1:] == [('revoked', {2, 3}, 1), ('assigned', set(), 2)]
        assert other.entries == [('assigned', {2, 3}, 2)]
        assert first.generation == second.generation == 2

    async def test_who_goes_leaves_its_partitions_to_the_others(self, join, group):
        first, diary = await join()
        second, _ = await join()

        await second.close()
        await group.settled()

        assert first.assignment == parts(0, 1, 2, 3)
        assert diary.entries[-1] == ('assigned', {2, 3}, 3)

    async def test_a_lost_connection_leaves_too(self, join, group, broker):
        first, _ = await join()
        other = MemoryJournal(broker, 'other')
        await other.connect()
        await join(other)

        broker.network.drop_connections(lambda who: who == 'other')
        await group.settled()

        assert first.assignment == parts(0, 1, 2, 3)

    async def test_a_member_without_partitions_is_told_that_it_has_joined(self, join):
        for _ in range(4):
            await join()

        _, fifth = await join()

        assert fifth.entries == [('assigned', set(), 5)]

    async def test_a_topic_that_comes_later_is_shared_then(self, join, group, journal):
        member, diary = await join(topics=('orders', 'bills'))

        await journal.create([TopicSpec('bills', 1)])
        await group.settled()

        assert member.assignment == parts(0, 1, 2, 3) | parts(0, topic='bills')
        assert diary.entries[-1] == ('assigned', {0}, 2)

    async def test_subscribing_anew_replaces_the_topics(self, join, group, journal):
        await journal.create([TopicSpec('bills', 1)])
        member, _ = await join()

        await member.subscribe(['bills'])
        await group.settled()

        assert member.assignment == parts(0, topic='bills')


class TestAssignment:
    def test_equal_topics_are_shared_alike(self):
        """So that partitions of one number can be joined."""
        topics = frozenset({'a', 'b', 'c'})
        plan = assign({1: topics, 2: topics, 3: topics}, {'a': 7, 'b': 7, 'c': 2}, {})

        for partitions in plan.values():
            numbers = [{w.partition for w in partitions if w.topic == t} for t in 'ab']
            assert numbers[0] == numbers[1]
        assert sorted(len(p) for p in plan.values()) == [5, 5, 6]

    def test_as_little_as_possible_moves(self):
        owned = {1: parts(0, 3), 2: parts(1, 2)}
        wanted = dict.fromkeys((1, 2, 3), frozenset({'orders'}))

        plan = assign(wanted, {'orders': 4}, owned)

        moved = sum(len(owned[member] - plan[member]) for member in owned)
        assert (moved, len(plan[3])) == (1, 1)

    def test_only_those_who_want_a_topic_get_it(self):
        wanted = {1: frozenset({'a'}), 2: frozenset({'a', 'b'})}

        plan = assign(wanted, {'a': 2, 'b': 2}, {})

        assert parts(0, 1, topic='b') <= plan[2]
        assert len(plan[1]) == 1


class TestReading:
    async def test_reading_starts_at_the_committed_offsets(self, join, journal):
        await append(journal, b'1', 0, 0, 0)
        first, _ = await join()
        await first.commit({TopicPartition('orders', 0): 2})
        await first.close()

        second, _ = await join()

        assert [r.offset for r in await second.fetch(10, 0)] == [2]

    async def test_the_listener_may_say_where_reading_starts(self, group, journal):
        await append(journal, b'1', 0, 0, 0)

        class Seeker(Diary):
            async def on_assigned(self, partitions):
                await self.member.seek({TopicPartition('orders', 0): 1})

        listener = Seeker()
        listener.member = member = await journal.member('g', listener)
        await member.subscribe(['orders'])

        assert [r.offset for r in await member.fetch(10, 1)] == [1, 2]

    async def test_nothing_is_read_while_the_listener_is_being_told(self, join, group, journal):
        await append(journal, b'1', 0, 1, 2, 3)
        first, diary = await join()
        hold = asyncio.Event()

        async def wait(_):
            hold_reached.set()
            await hold.wait()

        hold_reached = asyncio.Event()
        diary.before_leaving = wait
        joining = asyncio.ensure_future(join())
        await asyncio.wait_for(hold_reached.wait(), 1)

        during = await first.fetch(10, 0)
        hold.set()
        await joining

        assert list(during) == []
        assert {r.partition for r in await first.fetch(10, 0)} == {0, 1}

    async def test_an_error_of_the_listener_is_raised_by_fetch_and_harms_nobody_else(self, join):
        first, diary = await join()

        async def fail(_):
            raise LookupError('broken')

        diary.before_leaving = fail
        second, _ = await join()

        with pytest.raises(LookupError, match='broken'):
            await first.fetch(1, 0)
        assert second.assignment == parts(2, 3)


class TestFencing:
    async def test_what_is_committed_while_leaving_counts(self, join):
        _, diary = await join()

        async def commit(partitions):
            await diary.member.commit(dict.fromkeys(partitions, 9))

        diary.before_leaving = commit
        second, _ = await join()

        assert set((await second.committed(second.assignment)).values()) == {Commit(9)}

    async def test_a_commit_of_what_is_someone_elses_is_refused(self, join):
        first, _ = await join()
        await join()

        with pytest.raises(errors.GenerationEnded, match='orders/3'):
            await first.commit({TopicPartition('orders', 3): 1})
        await first.commit({TopicPartition('orders', 0): 1})

    async def test_an_evicted_member_may_not_commit_and_joins_again(self, join, group):
        member, diary = await join()
        group.evict(member)
        with pytest.raises(errors.GenerationEnded):
            await member.commit({TopicPartition('orders', 0): 1})

        await member.fetch(1, 0)
        await group.settled()

        assert diary.entries[1:] == [('revoked', {0, 1, 2, 3}, -1), ('assigned', {0, 1, 2, 3}, 2)]
        await member.commit({TopicPartition('orders', 0): 1})

    async def test_an_evicted_member_reads_nothing_until_it_is_back(self, join, group, journal):
        member, _ = await join()
        await append(journal, b'1', 0)
        group.evict(member)

        assert list(await member.fetch(1, 0)) == []
        await group.settled()

        assert len(await member.fetch(1, 0)) == 1

    async def test_who_does_not_fetch_for_too_long_loses_its_partitions(self, join, group, clock):
        silent, _ = await join(max_pause_s=30)
        alive, _ = await join()

        await clock.advance(31)
        await alive.fetch(1, 0)
        await group.settled()

        assert alive.assignment == parts(0, 1, 2, 3)
        assert silent.generation == -1

    async def test_who_fetches_again_too_late_is_told(self, join, group, clock):
        member, diary = await join(max_pause_s=30)

        await clock.advance(31)
        await member.fetch(1, 0)
        await group.settled()

        assert diary.entries[1:] == [('revoked', {0, 1, 2, 3}, -1), ('assigned', {0, 1, 2, 3}, 2)]

    async def test_a_listener_that_takes_too_long_does_not_hold_the_others(self, join, clock):
        _, diary = await join(max_pause_s=30)
        forever = asyncio.Event()

        async def wait(_):
            await forever.wait()

        diary.before_leaving = wait
        joining = asyncio.ensure_future(join())
        await clock.advance(31)
        second, _ = await asyncio.wait_for(joining, 1)
        forever.set()

        assert second.assignment == parts(0, 1, 2, 3)

    async def test_offsets_of_an_evicted_member_are_refused_in_a_transaction(
        self, join, group, journal
    ):
        member, _ = await join()
        producer = await journal.producer('tx')
        await producer.begin()
        group.evict(member)

        with pytest.raises(errors.GenerationEnded):
            await producer.send_offsets('g', {TopicPartition('orders', 0): 1}, member)

    async def test_offsets_may_be_committed_before_anyone_has_joined(self, group, journal):
        member = await journal.member('g', Diary())

        await member.commit({TopicPartition('orders', 0): 3})

        assert group.offsets == {TopicPartition('orders', 0): Commit(3)}
