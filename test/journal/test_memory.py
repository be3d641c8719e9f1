"""The journal in memory: topics, reading, producing, retention, compaction, faults."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold import errors
from service_scaffold.journal.base import NewRecord, TopicPartition, TopicSpec
from service_scaffold.journal.memory import MemoryJournal
from service_scaffold.journal.memory_log import RETENTION_BYTES, RETENTION_RECORDS, Topic

ONE = TopicPartition('orders', 0)


async def append(journal, *values: bytes | None, key: bytes | None = None, **options):
    producer = await journal.producer()
    options.setdefault('partition', 0)
    records = [NewRecord('orders', value, key, **options) for value in values]
    return await producer.produce(records)


async def read(journal, position: int = 0, limit: int = 100, isolation='read_committed'):
    """Return what is there from a position on: values, and the position afterwards."""
    reader = await journal.reader(isolation=isolation)
    await reader.assign({ONE: position})
    records = await reader.fetch(limit, 0)
    return [record.value for record in records], reader.position(ONE)


class TestTopics:
    async def test_create_makes_missing_topics_and_leaves_the_others(self, journal):
        await journal.create([TopicSpec('orders', 2)])
        await journal.create([TopicSpec('orders', 7), TopicSpec('bills')])

        found = await journal.partitions(['orders', 'bills', 'none'])

        assert found == {'orders': 2, 'bills': 4, 'none': None}

    async def test_a_topic_comes_into_being_with_its_first_record(self, journal):
        await append(journal, b'1')

        assert await journal.partitions(['orders']) == {'orders': 4}


class TestProducing:
    async def test_records_of_one_key_are_in_one_partition_in_order(self, journal):
        producer = await journal.producer()
        confirms: list[int] = []
        new = [NewRecord('orders', b'%d' % n, b'k%d' % (n % 5)) for n in range(50)]

        offsets = await producer.produce(new, confirms.extend)

        assert all(isinstance(offset, int) for offset in offsets)
        assert confirms == list(range(50))
        reader = await journal.reader()
        await reader.assign({TopicPartition('orders', n): 0 for n in range(4)})
        records = await reader.fetch(100, 0)
        for key in range(5):
            mine = [record for record in records if record.key == b'k%d' % key]
            assert [int(record.value) for record in mine] == list(range(key, 50, 5))
            assert len({record.partition for record in mine}) == 1

    async def test_records_without_a_key_go_to_each_partition_in_turn(self, journal):
        producer = await journal.producer()

        await producer.produce([NewRecord('orders', b'1')] * 8)

        wanted = [TopicPartition('orders', n) for n in range(4)]
        assert set((await journal.offsets(wanted, 'end')).values()) == {2}

    async def test_a_record_keeps_its_headers_and_its_time(self, journal, clock):
        await append(journal, b'1', headers=(('a', b'\xff'),), timestamp=5)
        await append(journal, b'2')

        reader = await journal.reader()
        await reader.assign({ONE: 0})
        first, second = await reader.fetch(10, 0)

        assert (first.headers, first.timestamp) == ((('a', b'\xff'),), 5)
        assert second.timestamp == clock.time() * 1000

    async def test_an_unknown_partition_is_an_error_of_that_record_only(self, journal):
        producer = await journal.producer()

        refused, offset = await producer.produce(
            [NewRecord('orders', b'1', partition=9), NewRecord('orders', b'2', partition=0)]
        )

        assert isinstance(refused, errors.PublishError)
        assert offset == 0


class TestReading:
    async def test_fetch_waits_for_a_record(self, journal):
        await journal.create([TopicSpec('orders')])
        reader = await journal.reader()
        await reader.assign({ONE: 0})
        fetching = asyncio.ensure_future(reader.fetch(10, 60))
        await asyncio.sleep(0)

        await append(journal, b'1')

        async with asyncio.timeout(1):
            assert [record.value for record in await fetching] == [b'1']

    async def test_fetch_is_empty_when_the_time_of_the_clock_is_over(self, journal, clock):
        await journal.create([TopicSpec('orders')])
        reader = await journal.reader()
        await reader.assign({ONE: 0})
        fetching = asyncio.ensure_future(reader.fetch(10, 60))

        await clock.advance(59)
        assert not fetching.done()
        await clock.advance(1)

        assert fetching.done()
        assert list(fetching.result()) == []

    async def test_a_cancelled_fetch_loses_nothing(self, journal):
        reader = await journal.reader()
        await journal.create([TopicSpec('orders')])
        await reader.assign({ONE: 0})
        fetching = asyncio.ensure_future(reader.fetch(10, 60))
        await asyncio.sleep(0)
        await append(journal, b'1')
        fetching.cancel()
        await asyncio.wait([fetching])

        assert [record.value for record in await reader.fetch(10, 0)] == [b'1']

    async def test_the_limit_holds_and_no_partition_is_starved(self, journal):
        producer = await journal.producer()
        await producer.produce(
            [NewRecord('orders', b'%d' % p, partition=p) for p in (0, 0, 0, 0, 1, 1)]
        )
        reader = await journal.reader()
        await reader.assign({ONE: 0, TopicPartition('orders', 1): 0})

        batches = [[r.value for r in await reader.fetch(2, 0)] for _ in range(3)]

        assert batches == [[b'0', b'0'], [b'1', b'1'], [b'0', b'0']]

    async def test_paused_partitions_are_left_out_and_go_on_where_they_were(self, journal):
        await append(journal, b'1', b'2')
        reader = await journal.reader()
        await reader.assign({ONE: 1})

        reader.pause([ONE])
        assert list(await reader.fetch(10, 0)) == []
        reader.resume([ONE])

        assert [record.value for record in await reader.fetch(10, 0)] == [b'2']

    async def test_assign_keeps_the_positions_of_what_stays(self, journal):
        await append(journal, b'1', b'2')
        other = TopicPartition('orders', 1)
        reader = await journal.reader()
        await reader.assign({ONE: 0})
        await reader.fetch(1, 0)

        await reader.assign({ONE: 0, other: 0})
        assert reader.position(ONE) == 1
        await reader.seek({ONE: 0})
        assert reader.position(ONE) == 0
        await reader.assign({other: 0})

        with pytest.raises(errors.JournalError, match='not being read'):
            reader.position(ONE)

    async def test_offsets_by_time(self, journal):
        for time in (10, 20, 30):
            await append(journal, b'x', timestamp=time)

        found = [(await journal.offsets([ONE], at))[ONE] for at in (0, 15, 20, 31, 'end', 'first')]

        assert found == [0, 1, 1, 3, 3, 0]


class TestKeeping:
    async def test_retention_drops_what_is_too_old_and_readers_notice(self, journal, clock):
        await journal.create([TopicSpec('orders', 1, config={'retention.ms': '60000'})])
        await append(journal, b'old')
        await clock.advance(61)
        await append(journal, b'new')

        assert (await journal.offsets([ONE], 'first'))[ONE] == 1
        with pytest.raises(errors.OffsetsLost) as lost:
            await read(journal, 0)
        assert lost.value.offsets == {ONE: (0, 1)}
        assert await read(journal, 1) == ([b'new'], 2)

    async def test_a_position_beyond_the_end_is_lost(self, journal):
        await append(journal, b'1')

        with pytest.raises(errors.OffsetsLost):
            await read(journal, 5)

    async def test_compaction_keeps_the_newest_of_each_key_at_its_offset(self, journal, broker):
        await journal.create([TopicSpec('orders', 1, config={'cleanup.policy': 'compact'})])
        for value in (b'1', b'2', None):
            await append(journal, value, key=b'gone')
        await append(journal, b'a', b'b', key=b'kept')

        broker.topics['orders'].partitions[0].compact(broker.now_ms())

        reader = await journal.reader()
        await reader.assign({ONE: 0})
        found = [(record.offset, record.value) for record in await reader.fetch(10, 0)]
        assert found == [(2, None), (4, b'b')]

    async def test_tombstones_go_after_a_day(self, journal, broker, clock):
        await append(journal, None, key=b'gone')
        await append(journal, b'1', key=b'kept')
        await clock.advance(24 * 3600 + 1)

        broker.topics['orders'].partitions[0].compact(broker.now_ms())

        assert (await read(journal))[0] == [b'1']

    async def test_a_compacted_topic_does_not_grow_with_its_updates(self, journal, broker):
        await journal.create([TopicSpec('orders', 1, config={'cleanup.policy': 'compact'})])

        for _ in range(50):
            await append(journal, *[b'x'] * 100, key=b'k')

        assert len(broker.topics['orders'].partitions[0]) <= 1000
        assert (await journal.offsets([ONE], 'end'))[ONE] == 5000

    async def test_compaction_leaves_open_transactions_alone(self, journal, broker):
        await append(journal, b'1', key=b'k')
        producer = await journal.producer('tx')
        await producer.begin()
        await producer.produce([NewRecord('orders', b'2', b'k', partition=0)])

        broker.topics['orders'].partitions[0].compact(broker.now_ms())
        await producer.abort()

        assert (await read(journal))[0] == [b'1']

    async def test_logs_that_nobody_declared_are_bounded(self, journal, broker):
        topic = Topic('events', 1, {}, declared=False)
        broker.topics['events'] = topic
        producer = await journal.producer()
        record = NewRecord('events', b'x')

        for _ in range(30):
            await producer.produce([record] * 1000)
        assert len(topic.partitions[0]) <= RETENTION_RECORDS * 1.25
        await producer.produce([record._replace(value=bytes(RETENTION_BYTES // 4))] * 9)

        assert len(topic.partitions[0]) <= 4

    async def test_declared_logs_are_not(self, journal, broker):
        await journal.create([TopicSpec('orders', 1)])

        await append(journal, *[b'x'] * 30_000)

        assert len(broker.topics['orders'].partitions[0]) == 30_000


async def test_a_deleted_topic_is_gone(journal):
    await append(journal, b'1')

    await journal.delete(['orders', 'never'])

    assert await journal.partitions(['orders']) == {'orders': None}


class TestFaults:
    async def test_connecting_to_a_broker_that_is_down_is_refused(self, broker):
        broker.network.down()

        with pytest.raises(errors.BrokerUnreachable):
            await MemoryJournal(broker).connect()

    async def test_a_lost_connection_ends_everything_made_by_it(self, journal, broker):
        await append(journal, b'1')
        reader, producer = await journal.reader(), await journal.producer()
        await reader.assign({ONE: 1})
        fetching = asyncio.ensure_future(reader.fetch(10, 60))
        await asyncio.sleep(0)

        broker.network.drop_connections()

        assert isinstance(await asyncio.wait_for(journal.lost, 1), errors.ConnectionLost)
        with pytest.raises(errors.ConnectionLost):
            await asyncio.wait_for(fetching, 1)
        with pytest.raises(errors.ConnectionLost):
            await producer.produce([NewRecord('orders', b'2')])

    async def test_records_outlive_the_connection(self, journal, broker):
        await append(journal, b'1')
        broker.network.down()
        broker.network.up()
        again = MemoryJournal(broker)
        await again.connect()

        assert (await read(again))[0] == [b'1']

    async def test_a_silent_broker_is_lost_after_the_time_limit(self, journal, broker):
        producer = await journal.producer(timeout_s=0.01)
        broker.network.half_open()

        with pytest.raises(errors.ConnectionLost, match=r'within 0\.01 s'):
            await producer.produce([NewRecord('orders', b'1')])

    async def test_a_silent_broker_gives_no_records(self, journal, broker, clock):
        await append(journal, b'1')
        reader = await journal.reader()
        await reader.assign({ONE: 0})
        broker.network.half_open()
        fetching = asyncio.ensure_future(reader.fetch(10, 5))

        await clock.advance(5)

        assert list(fetching.result()) == []

    async def test_a_refused_record_is_not_in_the_log(self, journal, broker):
        broker.network.fail_next_publish()

        (refused,) = await append(journal, b'1')
        (offset,) = await append(journal, b'2')

        assert isinstance(refused, errors.PublishError)
        assert offset == 0
