"""Transactions of the journal in memory: atomic, fenced, and invisible until they end."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold import errors
from service_scaffold.journal.base import NewRecord, TopicPartition
from service_scaffold.journal.memory import MemoryJournal

ONE = TopicPartition('orders', 0)


def record(value: bytes, partition: int = 0) -> NewRecord:
    return NewRecord('orders', value, partition=partition)


async def values(journal, isolation='read_committed', partitions=(0,)):
    reader = await journal.reader(isolation=isolation)
    await reader.assign({TopicPartition('orders', number): 0 for number in partitions})
    return [found.value for found in await reader.fetch(100, 0)]


async def begun(journal, transactional_id='tx'):
    producer = await journal.producer(transactional_id)
    await producer.begin()
    return producer


async def test_records_are_visible_all_at_once_with_the_commit(journal):
    producer = await begun(journal)
    await producer.produce([record(b'1'), record(b'2', 1)])
    assert await values(journal, partitions=(0, 1)) == []
    assert await values(journal, 'read_uncommitted', (0, 1)) == [b'1', b'2']

    await producer.commit()

    assert await values(journal, partitions=(0, 1)) == [b'1', b'2']


async def test_aborted_records_are_never_visible(journal):
    producer = await begun(journal)
    await producer.produce([record(b'no')])
    await producer.abort()
    await producer.begin()
    await producer.produce([record(b'yes')])
    await producer.commit()

    assert await values(journal) == [b'yes']


async def test_committed_readers_stop_at_the_last_stable_offset(journal):
    """Later records wait behind an open transaction, as on Kafka."""
    plain, producer = await journal.producer(), await begun(journal)
    await plain.produce([record(b'1')])
    await producer.produce([record(b'2')])
    await plain.produce([record(b'3')])

    assert await values(journal) == [b'1']
    assert (await journal.offsets([ONE], 'end'))[ONE] == 1
    await producer.abort()

    assert await values(journal) == [b'1', b'3']


async def test_the_end_of_a_transaction_takes_an_offset_and_positions_pass_it(journal):
    producer = await begun(journal)
    await producer.produce([record(b'1')])
    await producer.commit()
    reader = await journal.reader()
    await reader.assign({ONE: 0})

    await reader.fetch(1, 0)

    end = (await journal.offsets([ONE], 'end'))[ONE]
    assert reader.position(ONE) == end == 2


async def test_a_commit_wakes_a_waiting_reader(journal):
    producer = await begun(journal)
    await producer.produce([record(b'1')])
    reader = await journal.reader()
    await reader.assign({ONE: 0})
    fetching = asyncio.ensure_future(reader.fetch(10, 60))
    await asyncio.sleep(0)

    await producer.commit()

    assert [r.value for r in await asyncio.wait_for(fetching, 1)] == [b'1']


async def test_a_newer_producer_fences_the_older_one(journal):
    older = await begun(journal)
    await older.produce([record(b'zombie')])

    newer = await begun(journal)

    for step in (older.produce([record(b'x')]), older.commit(), older.abort(), older.begin()):
        with pytest.raises(errors.Fenced):
            await step
    await newer.produce([record(b'1')])
    await newer.commit()
    assert await values(journal) == [b'1']


@pytest.mark.parametrize('how', ['close', 'journal', 'network'])
async def test_an_open_transaction_is_aborted_when_its_producer_goes(broker, journal, how):
    own = MemoryJournal(broker, 'own')
    await own.connect()
    producer = await begun(own)
    await producer.produce([record(b'1')])

    if how == 'close':
        await producer.close()
    elif how == 'journal':
        await own.close()
    else:
        broker.network.drop_connections(lambda who: who == 'own')

    assert await values(journal) == []
    assert (await journal.offsets([ONE], 'end'))[ONE] == 2


async def test_steps_out_of_order_are_errors(journal):
    plain, transactional = await journal.producer(), await journal.producer('tx')

    for step in (plain.begin(), transactional.commit(), transactional.produce([record(b'1')])):
        with pytest.raises(errors.JournalError):
            await step
    await transactional.begin()
    with pytest.raises(errors.JournalError):
        await transactional.begin()
