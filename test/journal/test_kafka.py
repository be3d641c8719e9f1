"""The journal on a real Kafka."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from service_scaffold import errors
from service_scaffold.journal.base import (
    Commit,
    NewRecord,
    RebalanceListener,
    TopicPartition,
    TopicSpec,
)
from service_scaffold.journal.kafka import KafkaJournal
from service_scaffold.journal.kafka_client import Access
from service_scaffold.journal.partitioner import partition_of
from test.brokers.kafka import Kafka


@pytest.fixture
async def open_journal(kafka: Kafka) -> AsyncIterator[Callable]:
    """Make connected journals, closed at the end."""
    made: list[KafkaJournal] = []

    async def connected(port: int = kafka.port) -> KafkaJournal:
        journal = KafkaJournal(Access([(kafka.host, port)]))
        made.append(journal)
        await journal.connect()
        return journal

    yield connected
    await asyncio.gather(*(journal.close() for journal in made))


@pytest.fixture
async def journal(open_journal) -> KafkaJournal:
    return await open_journal()


@pytest.fixture
async def topic(journal, unique) -> str:
    """A topic with two partitions."""
    await journal.create([TopicSpec(unique, 2)])
    return unique


ROUNDS = 10


class Listener(RebalanceListener):
    """Notes what comes and goes; `revoking` and `assigning` may do more."""

    def __init__(self) -> None:
        self.assigned: asyncio.Queue[frozenset[TopicPartition]] = asyncio.Queue()
        self.revoking = self.assigning = nothing

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        await self.revoking(partitions)

    async def on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        await self.assigning(partitions)
        self.assigned.put_nowait(partitions)


async def nothing(partitions: object) -> None: ...


def records(topic: str, *values: str, partition: int | None = 0) -> list[NewRecord]:
    return [NewRecord(topic, value.encode(), partition=partition) for value in values]


async def append(journal: KafkaJournal, topic: str, *values: str, partition: int = 0) -> None:
    producer = await journal.producer()
    await producer.produce(records(topic, *values, partition=partition))
    await producer.close()


async def fetch(reader, count: int) -> list[str]:
    """Fetch exactly `count` values."""
    values: list[str] = []
    async with asyncio.timeout(10):
        while len(values) < count:
            values += [r.value.decode() for r in await reader.fetch(count - len(values), 1)]
    return values


async def joined(journal: KafkaJournal, group: str, topic: str, **options):
    """Return a member with partitions, and its listener."""
    listener = Listener()
    member = await journal.member(group, listener, **options)
    await member.subscribe([topic])
    async with asyncio.timeout(15):
        await listener.assigned.get()
    return member, listener


def spin(member) -> asyncio.Task:
    """Keep a member fetching."""

    async def fetch_on() -> None:
        while True:
            await member.fetch(1, 0.2)

    return asyncio.create_task(fetch_on())


# Topics


async def test_topics_are_created_once(journal, unique):
    """With their options or the broker's defaults; what exists is left alone."""
    compact = TopicSpec(f'{unique}c', 3, config={'cleanup.policy': 'compact'})
    await journal.create([compact, TopicSpec(unique)])
    await journal.create([TopicSpec(unique, 9)])

    names = [f'{unique}c', unique, f'{unique}x']
    assert await journal.partitions(names) == {f'{unique}c': 3, unique: 4, f'{unique}x': None}


async def test_a_created_topic_can_be_used_at_once(journal, unique):
    """Creating waits for leaders."""
    for number in range(5):
        name = f'{unique}{number}'
        await journal.create([TopicSpec(name)])
        await append(journal, name, 'x')


async def test_a_deleted_topic_is_gone(journal, unique):
    """Deleting one that does not exist, or no longer, is no error."""
    await journal.create([TopicSpec(unique)])

    await journal.delete([unique, f'{unique}-never'])
    await journal.delete([unique])

    async with asyncio.timeout(10):
        while (await journal.partitions([unique]))[unique] is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_refused_topic_names_itself(journal):
    """The broker's reason is in the error."""
    with pytest.raises(errors.BindingRefused, match=r'creating topic bad'):
        await journal.create([TopicSpec('bad', config={'no.such.option': '1'})])


async def test_offsets(journal, topic):
    """First, end, and by time."""
    where = TopicPartition(topic, 0)
    producer = await journal.producer()
    times = [1000, 2000, 3000]
    await producer.produce([NewRecord(topic, b'', partition=0, timestamp=at) for at in times])

    found = [(await journal.offsets([where], at))[where] for at in ('first', 'end', 0, 1500, 9999)]

    assert found == [0, 3, 0, 1, 3]


# Appending and reading


async def test_records_keep_everything(journal, topic):
    """Key, value, headers and time come back, tombstones and empty values included."""
    new = [
        NewRecord(topic, b'v', b'k', (('h', b'1'), ('h', b'')), timestamp=1234567890123),
        NewRecord(topic, None, b'gone', timestamp=5),
        NewRecord(topic, b'', None, partition=1, timestamp=6),
    ]
    producer = await journal.producer()
    offsets = await producer.produce(new)
    reader = await journal.reader()
    await reader.assign({TopicPartition(topic, n): 0 for n in range(2)})

    got = []
    async with asyncio.timeout(5):
        while len(got) < 3:
            got += await reader.fetch(10, 1)
    by_time = sorted(got, key=lambda record: -record.timestamp)

    assert [(r.key, r.value, r.headers, r.timestamp) for r in by_time] == [
        (b'k', b'v', (('h', b'1'), ('h', b'')), 1234567890123),
        (None, b'', (), 6),
        (b'gone', None, (), 5),
    ]
    assert [r.offset for r in got if r.key == b'k'] == [offsets[0]]
    assert {r.key: r.partition for r in got}[b'k'] == partition_of(b'k', 2)


async def test_offsets_are_reported_for_each_record(journal, topic):
    """Alone and in batches, in the order of the records; confirms name them."""
    producer = await journal.producer()
    confirms: list[int] = []
    assert await producer.produce(records(topic, 'a', 'b'), confirms.extend) == [0, 1]
    assert sorted(confirms) == [0, 1]
    confirms.clear()

    many = [*records(topic, *'cdefgh'), *records(topic, *'xyz', partition=1)]

    assert await producer.produce(many, confirms.extend) == [2, 3, 4, 5, 6, 7, 0, 1, 2]
    assert sorted(confirms) == list(range(9))


async def test_records_without_a_key_go_to_all_partitions(journal, topic):
    """In turn."""
    producer = await journal.producer()
    outcome = await producer.produce(records(topic, *'abcdefgh', partition=None))

    assert outcome == [0, 0, 1, 1, 2, 2, 3, 3]


async def test_keys_that_cannot_go_anywhere_else_are_not_remembered(journal, unique):
    """Those of answers, for one, which never come again."""
    await journal.create([TopicSpec(unique, 1)])
    producer = await journal.producer()
    before = partition_of.cache_info().currsize
    for many in (1, 100):  # one by one, and in batches
        sent = [NewRecord(unique, b'', b'%s %d' % (unique.encode(), n)) for n in range(many)]
        outcomes = await producer.produce(sent)
        assert all(isinstance(outcome, int) for outcome in outcomes)
    assert partition_of.cache_info().currsize == before


@pytest.mark.parametrize('transactional', [True, False])
async def test_a_topic_that_is_new_costs_the_others_nothing(journal, topic, transactional):
    """What the client knew at its start stays known when it looks up another topic.

    Records that wait for their turn would else wait for ever; which of them do is chance.
    """
    for number in range(ROUNDS):
        fresh = f'{topic}-{number}'
        producer = await journal.producer(fresh if transactional else None)
        await journal.create([TopicSpec(fresh, 1)])
        if transactional:
            await producer.begin()
        known = [NewRecord(topic, b'a', partition=n % 2) for n in range(6)]

        async with asyncio.timeout(2):
            outcome = await producer.produce([*known, NewRecord(fresh, b'b')])
        if transactional:
            await producer.commit()

        assert all(isinstance(offset, int) for offset in outcome)


async def test_a_partition_that_does_not_exist_fails_alone(journal, topic):
    """Alone and among others."""
    producer = await journal.producer()
    for count in (1, 9):
        wrong = records(topic, 'x', partition=7)
        *rest, refused = await producer.produce([*records(topic, *'a' * count), *wrong])

        assert isinstance(refused, errors.PublishError)
        assert refused.maybe_sent is False
        assert len(rest) == count
        assert all(isinstance(offset, int) for offset in rest)


async def test_a_reader_can_change_what_it_reads(journal, topic):
    """Kept partitions go on where they are, new ones begin where told."""
    one, two = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await append(journal, topic, 'a', 'b', 'c')
    await append(journal, topic, 'x', 'y', partition=1)
    reader = await journal.reader()
    await reader.assign({one: 0})
    assert await fetch(reader, 2) == ['a', 'b']

    await reader.assign({one: 0, two: 1})

    assert sorted(await fetch(reader, 2)) == ['c', 'y']
    assert (reader.position(one), reader.position(two)) == (3, 2)
    await reader.seek({one: 1})
    assert await fetch(reader, 2) == ['b', 'c']


async def test_paused_partitions_are_left_out(journal, topic):
    """And go on where they were."""
    one, two = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await append(journal, topic, 'a', 'b')
    await append(journal, topic, 'x', partition=1)
    reader = await journal.reader()
    await reader.assign({one: 0, two: 0})
    reader.pause([one])

    assert await fetch(reader, 1) == ['x']
    assert not await reader.fetch(10, 0.3)
    reader.resume([one])
    assert await fetch(reader, 2) == ['a', 'b']


async def test_a_fetch_under_way_sees_what_is_paused_and_resumed(journal, topic):
    """What was fetched before is given then, from where it was left, without another wait."""
    one, two = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await append(journal, topic, 'a', 'b', 'c')
    reader = await journal.reader()
    await reader.assign({one: 0, two: 0})
    assert [record.value for record in await reader.fetch(1, 10)] == [b'a']
    waiting = asyncio.ensure_future(reader.fetch(10, 10))
    reader.pause([one])
    await append(journal, topic, 'x', partition=1)
    assert [record.value for record in await waiting] == [b'x']

    waiting = asyncio.ensure_future(reader.fetch(10, 10))
    await asyncio.sleep(0)
    began = time.monotonic()
    reader.resume([one])
    assert [record.value for record in await waiting] == [b'b', b'c']
    assert time.monotonic() - began < 5


async def test_an_empty_fetch_takes_as_long_as_it_was_given(journal, topic):
    """Also when nothing is assigned, or more than one wait of the client is needed."""
    reader = await journal.reader()
    for positions in ({}, {TopicPartition(topic, 0): 0}):
        await reader.assign(positions)
        began = time.monotonic()
        assert not await reader.fetch(1, 0.7)
        assert 0.6 < time.monotonic() - began < 1.5


async def test_positions_outside_of_the_log_raise(journal, topic):
    """Never a jump."""
    where = TopicPartition(topic, 0)
    await append(journal, topic, 'a')
    reader = await journal.reader()
    await reader.assign({where: 100})

    with pytest.raises(errors.OffsetsLost) as lost:
        await reader.fetch(1, 5)

    assert lost.value.offsets == {where: (100, 0)}


# Groups


async def test_a_member_begins_with_the_first_record_or_where_it_seeks(journal, topic):
    """Without a commit; a committed offset comes first."""
    await append(journal, topic, 'a', 'b', 'c')
    member, _ = await joined(journal, f'{topic}1', topic)
    assert await fetch(member, 3) == ['a', 'b', 'c']

    listener = Listener()
    seeker = await journal.member(f'{topic}2', listener)
    listener.assigning = lambda partitions: seeker.seek(dict.fromkeys(partitions, 2))
    await seeker.commit({TopicPartition(topic, 1): 0})
    await append(journal, topic, 'w', 'x', 'y', 'z', partition=1)
    await seeker.subscribe([topic])

    assert sorted(await fetch(seeker, 3)) == ['c', 'y', 'z']


async def test_offsets_are_committed_for_the_group(journal, topic):
    """And found by the next member; the old one's are refused."""
    one, two = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await append(journal, topic, 'a', 'b', 'c')
    member, _ = await joined(journal, topic, topic)
    await member.commit({one: 2})
    assert await member.committed([one, two]) == {one: Commit(2), two: None}
    await member.close()

    member, _ = await joined(journal, topic, topic)

    assert await fetch(member, 1) == ['c']


async def test_members_share_and_are_told(journal, open_journal, topic):
    """A second member gets its part; a leaving one gives it back."""
    one, listener = await joined(journal, topic, topic)
    tasks = [spin(one)]
    assert one.assignment == {TopicPartition(topic, 0), TopicPartition(topic, 1)}
    generation = one.generation

    two, _ = await joined(await open_journal(), topic, topic)
    tasks.append(spin(two))
    async with asyncio.timeout(15):
        while await listener.assigned.get() != one.assignment or len(one.assignment) > 1:
            pass
    assert one.assignment | two.assignment == {TopicPartition(topic, n) for n in range(2)}
    assert not one.assignment & two.assignment
    assert one.generation > generation

    tasks.pop().cancel()
    began = time.monotonic()
    await two.close()
    async with asyncio.timeout(15):
        assert len(await listener.assigned.get()) == 2
    assert time.monotonic() - began < 2.5
    tasks.pop().cancel()


async def test_what_is_committed_while_leaving_counts(journal, open_journal, topic):
    """`on_revoked` may finish and commit; the next owner begins there."""
    await append(journal, topic, 'a', 'b')
    await append(journal, topic, 'x', 'y', partition=1)
    one, listener = await joined(journal, topic, topic)
    listener.revoking = lambda partitions: one.commit(dict.fromkeys(partitions, 1))
    task = spin(one)

    two, _ = await joined(await open_journal(), topic, topic)

    assert await fetch(two, 1) in (['b'], ['y'])
    task.cancel()


async def test_a_failing_listener_is_not_passed_over(journal, topic):
    """What it raises comes out of `fetch`."""

    async def fail(partitions: object) -> None:
        raise errors.JournalError('no room')

    listener = Listener()
    listener.assigning = fail
    member = await journal.member(topic, listener)
    await member.subscribe([topic])

    with pytest.raises(errors.JournalError, match='no room'):
        await member.fetch(1, 10)


async def test_a_member_that_does_not_fetch_loses_its_partitions(journal, open_journal, topic):
    """After `max_pause_s`; cancelled fetches do not count as fetching."""
    idle, _ = await joined(journal, topic, topic, max_pause_s=2.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await idle.fetch(1, 5)

    busy, listener = await joined(await open_journal(), topic, topic)
    task = spin(busy)
    async with asyncio.timeout(20):
        while len(busy.assignment) < 2:
            await listener.assigned.get()
    task.cancel()

    with pytest.raises(errors.GenerationEnded):
        await idle.commit({TopicPartition(topic, 0): 1})


# Transactions


async def test_a_transaction_is_visible_as_a_whole(journal, topic):
    """Not before the commit, never after an abort; its marks take offsets, which are passed."""
    where = TopicPartition(topic, 0)
    reader = await journal.reader()
    eager = await journal.reader(isolation='read_uncommitted')
    for some in (reader, eager):
        await some.assign({where: 0})
    producer = await journal.producer(f'{topic}-tx')

    await producer.begin()
    assert await producer.produce(records(topic, 'a', 'b')) == [0, 1]
    assert await fetch(eager, 2) == ['a', 'b']
    assert not await reader.fetch(10, 0.3)
    assert await journal.offsets([where], 'end') == {where: 0}
    await producer.commit()
    assert await fetch(reader, 2) == ['a', 'b']

    await producer.begin()
    await producer.produce(records(topic, *'cdefghij'))
    await producer.abort()
    await producer.begin()
    await producer.produce(records(topic, 'k'))
    await producer.commit()
    assert await fetch(reader, 1) == ['k']

    end = (await journal.offsets([where], 'end'))[where]
    async with asyncio.timeout(5):
        while reader.position(where) < end:
            await reader.fetch(10, 0.1)


async def test_a_member_left_behind_cannot_commit_in_a_transaction(journal, open_journal, topic):
    """The generation fences; the transaction can be aborted and the producer goes on."""
    where = TopicPartition(topic, 0)
    old, _ = await joined(journal, topic, topic)
    producer = await journal.producer(f'{topic}-tx')
    await producer.begin()
    await producer.produce(records(topic, 'a'))
    await old.close()
    new, _ = await joined(await open_journal(), topic, topic)

    with pytest.raises(errors.GenerationEnded):
        await producer.send_offsets(topic, {where: 5}, old)
    await producer.abort()

    assert await new.committed([where]) == {where: None}
    await producer.begin()
    await producer.send_offsets(topic, {where: 7}, new)
    await producer.commit()
    assert await new.committed([where]) == {where: Commit(7)}


async def test_a_newer_producer_fences_the_older_one(journal, topic):
    """Every step of the older one says so, and nothing of it becomes visible."""
    old = await journal.producer(f'{topic}-tx')
    await old.begin()
    await old.produce(records(topic, 'old'))
    new = await journal.producer(f'{topic}-tx')

    for step in (
        lambda: old.produce(records(topic, 'x')),
        lambda: old.produce(records(topic, *'abcdefgh')),
        old.commit,
        old.abort,
        old.begin,
    ):
        with pytest.raises(errors.Fenced):
            await step()
    await old.close()
    await new.begin()
    await new.produce(records(topic, 'new'))
    await new.commit()

    reader = await journal.reader()
    await reader.assign({TopicPartition(topic, 0): 0})
    assert await fetch(reader, 1) == ['new']


async def test_fencing_at_the_commit(journal, topic):
    """The older one finds out when it commits."""
    old = await journal.producer(f'{topic}-tx')
    await old.begin()
    await old.produce(records(topic, 'old'))
    await journal.producer(f'{topic}-tx')

    with pytest.raises(errors.Fenced):
        await old.commit()


async def test_an_open_transaction_is_aborted_at_close(journal, topic):
    """Readers do not have to wait until its time is over."""
    where = TopicPartition(topic, 0)
    producer = await journal.producer(f'{topic}-tx')
    await producer.begin()
    await producer.produce(records(topic, 'a'))
    await producer.close()
    await append(journal, topic, 'b')

    reader = await journal.reader()
    await reader.assign({where: 0})

    assert await fetch(reader, 1) == ['b']


async def test_steps_out_of_order_are_errors(journal, topic):
    """Producing outside of a transaction, beginning twice, transactions without an id."""
    producer = await journal.producer(f'{topic}-tx')
    with pytest.raises(errors.JournalError):
        await producer.commit()
    await producer.begin()
    with pytest.raises(errors.JournalError):
        await producer.begin()
    with pytest.raises(errors.JournalError):
        await (await journal.producer()).begin()


# Faults


async def test_everything_is_bounded_in_an_outage(open_journal, kafka, topic):
    """Commits, transactions and questions end with ConnectionLost, and closing is short."""
    journal = await open_journal(kafka.proxy.port)
    member, _ = await joined(journal, topic, topic)
    plain = await journal.producer(timeout_s=2)
    transactional = await journal.producer(f'{topic}-tx', timeout_s=2)
    await transactional.begin()
    await transactional.produce(records(topic, 'a'))
    kafka.proxy.half_open()
    began = time.monotonic()

    results = await asyncio.gather(
        member.commit({TopicPartition(topic, 0): 1}),
        member.fetch(1, 20),
        plain.produce(records(topic, 'x')),
        plain.produce(records(topic, *'abcdefghi')),
        transactional.produce(records(topic, 'x')),
        transactional.commit(),
        journal.partitions([topic]),
        return_exceptions=True,
    )

    assert [type(result) for result in results] == [errors.ConnectionLost] * 7
    assert time.monotonic() - began < 12
    began = time.monotonic()
    await journal.close()
    assert time.monotonic() - began < 2


async def test_a_short_interruption_is_no_loss(open_journal, kafka, topic):
    """When connections break and can be made again, reading goes on in place."""
    journal = await open_journal(kafka.proxy.port)
    reader = await journal.reader()
    await reader.assign({TopicPartition(topic, 0): 0})
    await append(journal, topic, 'a')
    assert await fetch(reader, 1) == ['a']
    kafka.proxy.drop_connections()

    await append(await open_journal(), topic, 'b')

    assert await fetch(reader, 1) == ['b']
    assert not journal.lost.done()


@pytest.mark.parametrize('kind', ['producer', 'reader', 'member'])
async def test_what_starts_while_the_journal_closes_is_closed(journal, unique, kind):
    """Nobody else would: the journal does not know it yet."""
    starts = {
        'producer': journal.producer,
        'reader': journal.reader,
        'member': lambda: journal.member(unique, Listener()),
    }
    starting = asyncio.create_task(starts[kind]())
    await asyncio.sleep(0)

    await journal.close()

    with pytest.raises(errors.ConnectionLost):
        await starting


@pytest.mark.parametrize('kind', ['producer', 'reader', 'member'])
async def test_who_is_cancelled_while_closing_leaves_nothing_half_closed(
    open_journal, topic, unique, kind
):
    """The closing goes on, and the journal's own waits for it."""
    before = asyncio.all_tasks()
    journal = await open_journal()
    if kind == 'producer':
        part = await journal.producer()
        await part.produce(records(topic, 'a'))
    elif kind == 'reader':
        part = await journal.reader()
        await part.assign({TopicPartition(topic, 0): 0})
        await part.fetch(1, 0.1)  # the client waits for the next records all the time
    else:
        part, _ = await joined(journal, unique, topic)
    closing = asyncio.create_task(part.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait({closing})

    await journal.close()

    assert closing.cancelled()
    await asyncio.sleep(0)  # the last task has just ended
    assert asyncio.all_tasks() == before


async def test_a_journal_whose_closing_was_cancelled_is_closed(open_journal):
    """Its connection, too."""
    before = asyncio.all_tasks()
    journal = await open_journal()
    closing = asyncio.create_task(journal.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait({closing})

    await journal.close()

    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_closing_twice_and_without_connecting(kafka, topic):
    """Is fine."""
    journal = KafkaJournal(Access([(kafka.host, kafka.port)]))
    await journal.close()
    await journal.connect()
    await journal.reader()
    await journal.close()
    await journal.close()

    with pytest.raises(errors.ConnectionLost):
        await journal.offsets([TopicPartition(topic, 0)], 'end')


async def test_a_record_with_neither_key_nor_value_is_appended(journal, topic):
    """Alone and among others: the client's own way is to refuse it."""
    producer = await journal.producer()

    alone = await producer.produce([NewRecord(topic, None, partition=0)])
    among = await producer.produce([NewRecord(topic, None, partition=0)] * 20)

    assert [*alone, *among] == list(range(21))


async def test_where_a_record_goes_is_known_before(journal, topic):
    producer = await journal.producer()
    keyed = NewRecord(topic, b'', b'key')

    assert await producer.place(keyed) == partition_of(b'key', 2)
    assert await producer.place(keyed._replace(partition=1)) == 1
    assert {await producer.place(NewRecord(topic, b'')) for _ in range(4)} == {0, 1}


@pytest.mark.parametrize('transactional', [False, True])
async def test_what_is_too_large_is_told_apart_and_how_much_would_do(
    journal, unique, transactional
):
    """Whether it is the topic that does not take it, or the client."""
    await journal.create([TopicSpec(unique, 1, config={'max.message.bytes': '5000'})])
    producer = await journal.producer(unique if transactional else None)
    if transactional:
        await producer.begin()

    (refused,) = await producer.produce([NewRecord(unique, bytes(10_000))])

    assert isinstance(refused, errors.TooLarge)
    assert await producer.largest(unique) == 5_000
    assert await producer.largest(f'{unique}-none') is None


async def test_what_is_larger_than_a_request_is_not_sent(journal, topic):
    """The broker would end the connection; those beside it are appended."""
    producer = await journal.producer()
    records = [NewRecord(topic, b'%d' % n, partition=0) for n in range(20)]
    records[7] = NewRecord(topic, bytes(65 * 1024 * 1024), partition=0)

    outcome = await producer.produce(records)

    assert isinstance(outcome[7], errors.TooLarge)
    assert [each for each in outcome if isinstance(each, int)] == list(range(19))
