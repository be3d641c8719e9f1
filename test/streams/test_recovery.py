"""Bringing tables back from their changelogs."""

from __future__ import annotations

import pytest

from service_scaffold import errors
from service_scaffold.journal.base import NewRecord
from service_scaffold.journal.memory import MemoryJournal
from service_scaffold.streams.checkpoint import CHECKPOINT_HEADER
from service_scaffold.streams.driver import Driver, drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology


def counting(guarantee: str = 'at_least_once', **settings: object) -> Topology:
    """An agent that counts words in a table."""
    app = Topology(StreamSettings('shop', guarantee=guarantee, **settings))
    words = app.topic('words', value_type=str, partitions=1)
    counts = app.Table('counts', default=int, key_type=str)

    @app.agent(words)
    async def count(stream):
        async for word in stream:
            if word.startswith('-'):
                del counts[word[1:]]
            else:
                counts[word] += 1

    return app


async def log(driver: Driver, *records: NewRecord) -> None:
    """Append records to the log, as another worker would."""
    journal = MemoryJournal(driver._broker, who='another')
    await journal.connect()
    producer = await journal.producer()
    await producer.produce(records)
    await journal.close()


async def test_changes_of_a_checkpoint_without_its_offsets_are_taken_back() -> None:
    """A worker died between logging and committing: its successor handles the events again."""
    app = counting()
    async with drive(app) as t:
        for word in ('a', 'a', 'b'):
            await t.send('words', word)
        await t.settle()
        newest = t.read('shop-counts-changelog')[-1]
        late = str(int(newest.headers[CHECKPOINT_HEADER]) + 1).encode()
        await log(
            t,
            NewRecord('shop-counts-changelog', b'3', b'a', ((CHECKPOINT_HEADER, late),), 0),
            NewRecord('shop-counts-changelog', b'1', b'c', ((CHECKPOINT_HEADER, late),), 0),
        )
        await t.restart(wipe_state=True)
        assert dict(app.tables['counts'].items()) == {'a': 2, 'b': 1}
        await t.send('words', 'b')
        await t.settle()
        await t.restart(wipe_state=True)
        assert dict(app.tables['counts'].items()) == {'a': 2, 'b': 2}


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
@pytest.mark.parametrize('wipe_state', [False, True])
async def test_a_table_is_the_same_after_a_restart(guarantee: str, wipe_state: bool) -> None:
    """Deleted keys stay deleted, with and without the store."""
    app = counting(guarantee)
    async with drive(app) as t:
        for word in ('a', 'b', 'a', '-b', 'c'):
            await t.send('words', word)
        await t.settle()
        before = dict(app.tables['counts'].items())
        await t.restart(wipe_state=wipe_state)
        assert dict(app.tables['counts'].items()) == before == {'a': 2, 'c': 1}


async def test_a_changelog_that_was_emptied_is_no_reason_to_wait() -> None:
    """Retention, or somebody with the tools, has deleted every record: the table is empty."""
    app = counting()
    async with drive(app) as t:
        await t.send('words', 'a')
        await t.settle()
        partition = t._broker.topics['shop-counts-changelog'].partitions[0]
        partition.truncate(partition.end)
        await t.restart(wipe_state=True)
        assert dict(app.tables['counts'].items()) == {}
        await t.send('words', 'a')
        await t.settle()
        assert app.tables['counts']['a'] == 1


async def test_a_store_that_is_ahead_of_its_changelog_is_built_again() -> None:
    """Somebody has deleted the changelog, and it was made again."""
    app = counting()
    async with drive(app) as t:
        for word in ('a', 'b', 'c'):
            await t.send('words', word)
        await t.settle()
        await t.stop()
        t._broker.delete_topic('shop-counts-changelog')
        await t.start()
        assert dict(app.tables['counts'].items()) == {}


async def test_offsets_that_are_no_longer_in_the_log_are_never_passed_silently() -> None:
    """By default the worker says so, and does not begin."""
    app = counting()
    async with drive(app) as t:
        await t.send('words', 'a')
        await t.settle()
        await t.stop()
        await log(t, *(NewRecord('words', b'"b"', partition=0) for _ in range(3)))
        partition = t._broker.topics['words'].partitions[0]
        partition.truncate(partition.end - 1)
        with pytest.raises(errors.OffsetsLost, match='on_offset_lost'):
            await t.start()


@pytest.mark.parametrize(('choice', 'counted'), [('earliest', 2), ('latest', 1)])
async def test_whoever_allows_it_goes_on_behind_lost_offsets(choice: str, counted: int) -> None:
    app = counting(on_offset_lost=choice)
    async with drive(app) as t:
        await t.send('words', 'a')
        await t.settle()
        await t.stop()
        await log(t, *(NewRecord('words', b'"a"', partition=0) for _ in range(3)))
        log_of = t._broker.topics['words'].partitions[0]
        log_of.truncate(log_of.end - 1)
        await t.start()
        assert app.tables['counts']['a'] == counted
