"""What a group has committed, and who may say so: the same on Kafka and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from service_scaffold import errors
from service_scaffold.clock import ManualClock
from service_scaffold.journal.base import (
    NOTE_LIMIT,
    Commit,
    Journal,
    Member,
    NewRecord,
    Producer,
    RebalanceListener,
    TopicPartition,
    TopicSpec,
)
from service_scaffold.journal.kafka import KafkaJournal
from service_scaffold.journal.kafka_client import Access
from service_scaffold.journal.memory import MemoryJournal
from service_scaffold.journal.memory_broker import MemoryBroker
from test.brokers.kafka import Kafka

LIMIT_S = 20.0
PAUSE_S = 2.0
ANSWER_S = 3.0


class Place:
    """Where a journal is: in memory, with a clock that is moved by hand."""

    def __init__(self, broker: MemoryBroker, clock: ManualClock) -> None:
        self._broker = broker
        self._clock = clock
        self.made: list[Journal] = []

    async def open(self) -> Journal:
        """Return a connection of its own."""
        self.made.append(self._make())
        await self.made[-1].connect()
        return self.made[-1]

    def _make(self) -> Journal:
        return MemoryJournal(self._broker)

    async def overstay(self, member: Member) -> None:
        """Let a member that may be silent for `PAUSE_S` be silent for longer."""
        await self._clock.advance(PAUSE_S + 0.1)

    async def wait_for_answers(self) -> None:
        """Let the time pass within which a question is answered."""
        await self._clock.advance(10)


class KafkaPlace(Place):
    """On a broker, where time goes by itself."""

    def __init__(self, kafka: Kafka) -> None:
        self._access = Access([(kafka.host, kafka.port)], timeout_s=ANSWER_S)
        self.made = []

    def _make(self) -> Journal:
        return KafkaJournal(self._access)

    async def overstay(self, member: Member) -> None:
        async with asyncio.timeout(LIMIT_S):
            while member.generation >= 0:  # noqa: ASYNC110 - what it asks the broker, not us
                await asyncio.sleep(0.05)

    async def wait_for_answers(self) -> None: ...


@pytest.fixture(params=['memory', 'kafka'])
async def place(request) -> AsyncIterator[Place]:
    """Both implementations, one after the other."""
    if request.param == 'memory':
        place = Place(request.getfixturevalue('broker'), request.getfixturevalue('clock'))
    else:
        place = KafkaPlace(request.getfixturevalue('kafka'))
    yield place
    await asyncio.gather(*(journal.close() for journal in place.made))


@pytest.fixture
async def journal(place) -> Journal:
    return await place.open()


@pytest.fixture
async def where(journal, unique) -> TopicPartition:
    """The only partition of a topic, with ten records; a group of that name reads it."""
    await journal.create([TopicSpec(unique, 1)])
    producer = await journal.producer()
    await producer.produce([NewRecord(unique, b'%d' % n, partition=0) for n in range(10)])
    return TopicPartition(unique, 0)


class Diary(RebalanceListener):
    """Writes down what it is told, and in which generation."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, frozenset[TopicPartition], int]] = []
        self.member: Member | None = None
        self.joined = asyncio.Event()
        self.leaving: Callable[[], Awaitable[None]] | None = None

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        self.entries.append(('revoked', partitions, self.member.generation))
        if self.leaving is not None:
            await self.leaving()

    async def on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        self.entries.append(('assigned', partitions, self.member.generation))
        self.joined.set()


async def joining(journal: Journal, where: TopicPartition, **options) -> tuple[Member, Diary]:
    """Return a member that has asked for the partition."""
    diary = Diary()
    diary.member = await journal.member(where.topic, diary, **options)
    await diary.member.subscribe([where.topic])
    return diary.member, diary


async def joined(journal: Journal, where: TopicPartition, **options) -> tuple[Member, Diary]:
    """Return a member that has the partition."""
    member, diary = await joining(journal, where, **options)
    await asyncio.wait_for(diary.joined.wait(), LIMIT_S)
    return member, diary


async def begun(journal: Journal, where: TopicPartition) -> Producer:
    """Return a producer whose transaction is open."""
    producer = await journal.producer(f'{where.topic}-tx')
    await producer.begin()
    return producer


async def still_waits(task: asyncio.Future) -> bool:
    await asyncio.wait({task}, timeout=0.3)
    return not task.done()


# Notes


async def test_a_note_is_stored_with_its_offset(journal, place, where):
    """Others find both; the next offset without a note takes it away."""
    member, _ = await joined(journal, where)
    other = await (await place.open()).member(where.topic, Diary())
    await member.commit({where: 2}, {where: 'Stand 7 · ✓'})
    assert await other.committed([where]) == {where: Commit(2, 'Stand 7 · ✓')}

    await member.commit({where: 3})

    assert await other.committed([where]) == {where: Commit(3)}


@pytest.mark.parametrize(
    ('has_offset', 'note', 'reason'),
    [
        (True, 'é' * (NOTE_LIMIT // 2) + 'x', 'has 4097 bytes'),
        (True, '\ud800', 'is no valid text'),
        (False, 'x', 'no offset'),
    ],
)
async def test_a_note_that_cannot_be_stored_is_refused(journal, where, has_offset, note, reason):
    """Before anything is sent: neither the member nor the transaction suffers."""
    wanted = {where: 2} if has_offset else {}
    member, _ = await joined(journal, where)
    producer = await begun(journal, where)

    with pytest.raises(errors.JournalError, match=reason):
        await member.commit(wanted, {where: note})
    with pytest.raises(errors.JournalError, match=reason):
        await producer.send_offsets(where.topic, wanted, member, {where: note})

    assert await member.committed([where]) == {where: None}
    await producer.send_offsets(where.topic, {where: 1}, member, {where: 'ok'})
    await producer.commit()
    assert await member.committed([where]) == {where: Commit(1, 'ok')}


async def test_the_longest_note(journal, where):
    """The limit counts bytes; a broker takes as many."""
    longest = 'é' * (NOTE_LIMIT // 2)
    member, _ = await joined(journal, where)
    await member.commit({where: 1}, {where: longest})
    assert await member.committed([where]) == {where: Commit(1, longest)}


# Transactions


async def test_offsets_and_notes_go_with_the_transaction(journal, where):
    """Committed with it, dropped with it, and nobody gets to know while they may change."""
    member, _ = await joined(journal, where)
    producer = await begun(journal, where)
    await producer.send_offsets(where.topic, {where: 5}, member, {where: 'five'})
    asking = asyncio.ensure_future(member.committed([where]))
    assert await still_waits(asking)

    await producer.commit()
    assert await asyncio.wait_for(asking, LIMIT_S) == {where: Commit(5, 'five')}

    await producer.begin()
    await producer.send_offsets(where.topic, {where: 9}, member, {where: 'nine'})
    asking = asyncio.ensure_future(member.committed([where]))
    assert await still_waits(asking)
    await producer.abort()
    assert await asyncio.wait_for(asking, LIMIT_S) == {where: Commit(5, 'five')}


async def test_waiting_for_a_transaction_ends(journal, place, where):
    """It is said what is waited for, and only the partitions asked for are."""
    member, _ = await joined(journal, where)
    producer = await begun(journal, where)
    await producer.send_offsets(where.topic, {where: 5}, member)
    asking = asyncio.ensure_future(member.committed([where]))
    await place.wait_for_answers()

    with pytest.raises(errors.JournalError, match='an open transaction may change'):
        await asyncio.wait_for(asking, ANSWER_S + 1)

    other = TopicPartition(where.topic, 1)
    assert await member.committed([other]) == {other: None}


async def test_who_comes_next_waits_for_the_transaction_and_goes_on_behind_it(
    journal, place, where
):
    """It may be committed by one that has left: what it had sent was its own then."""
    old, _ = await joined(journal, where)
    producer = await begun(journal, where)
    await producer.send_offsets(where.topic, {where: 4}, old, {where: 'four'})
    await old.close()
    new, diary = await joining(await place.open(), where)
    told = asyncio.ensure_future(diary.joined.wait())
    assert await still_waits(told)

    await producer.commit()

    await asyncio.wait_for(told, LIMIT_S)
    assert [record.offset for record in await new.fetch(1, 5)] == [4]
    assert await new.committed([where]) == {where: Commit(4, 'four')}


async def test_a_taken_over_transaction_is_aborted_at_once(journal, place, where):
    """Opening a producer with the id of a dead worker ends what that one had begun."""
    member, _ = await joined(journal, where)
    await member.commit({where: 1}, {where: 'one'})
    dead = await begun(await place.open(), where)
    await dead.produce([NewRecord(where.topic, b'never', partition=0)])
    await dead.send_offsets(where.topic, {where: 5}, member, {where: 'never'})
    asking = asyncio.ensure_future(member.committed([where]))
    assert await still_waits(asking)

    heir = await journal.producer(f'{where.topic}-tx')

    async with asyncio.timeout(0.5):
        assert await member.committed([where]) == {where: Commit(1, 'one')}
    assert await asyncio.wait_for(asking, LIMIT_S) == {where: Commit(1, 'one')}
    end = await journal.offsets([where], 'end')
    assert end[where] > 11, 'readers of committed records are held up'
    with pytest.raises(errors.Fenced):
        await dead.commit()
    await heir.begin()
    await heir.send_offsets(where.topic, {where: 2}, member)
    await heir.commit()
    assert await member.committed([where]) == {where: Commit(2)}


# Thrown out


async def test_who_has_missed_its_time_is_told_and_joins_again(journal, place, where):
    """Nobody else is in the group, and yet the old generation commits nothing."""
    member, diary = await joined(journal, where, max_pause_s=PAUSE_S)
    await member.commit({where: 1})
    refused: list[Exception] = []

    async def commit() -> None:
        try:
            await member.commit({where: 3})
        except errors.GenerationEnded as error:
            refused.append(error)

    diary.leaving = commit
    await place.overstay(member)
    with pytest.raises(errors.GenerationEnded):
        await member.commit({where: 2})
    producer = await begun(journal, where)
    with pytest.raises(errors.GenerationEnded):
        await producer.send_offsets(where.topic, {where: 2}, member)

    diary.joined.clear()
    async with asyncio.timeout(LIMIT_S):
        while not diary.joined.is_set():
            await member.fetch(1, 0.2)

    first, revoked, again = diary.entries
    assert revoked == ('revoked', frozenset({where}), -1)
    assert again[:2] == first[:2]
    assert again[2] == member.generation > 0
    assert len(refused) == 1
    assert await member.committed([where]) == {where: Commit(1)}
    await member.commit({where: 4})


async def test_who_has_missed_its_time_goes_on_behind_the_others(journal, place, where):
    """Meanwhile another one has worked, and has left."""
    member, diary = await joined(journal, where, max_pause_s=PAUSE_S)
    await place.overstay(member)
    other, _ = await joined(await place.open(), where)
    await other.commit({where: 7})
    await other.close()

    with pytest.raises(errors.GenerationEnded):
        await member.commit({where: 2})

    diary.joined.clear()
    got = []
    async with asyncio.timeout(LIMIT_S):
        while not diary.joined.is_set() or not got:
            got = await member.fetch(1, 0.2)
    assert [record.offset for record in got] == [7]
