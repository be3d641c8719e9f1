"""Bringing tables back from their changelogs."""

from __future__ import annotations

import dataclasses
import time

import pytest

from service_scaffold import errors
from service_scaffold.clock import SystemClock
from service_scaffold.journal.base import NewRecord, TopicPartition, TopicSpec
from service_scaffold.journal.memory import MemoryJournal
from service_scaffold.journal.memory_broker import MemoryBroker
from service_scaffold.journal.memory_group import Groups
from service_scaffold.streams.checkpoint import CHECKPOINT_HEADER
from service_scaffold.streams.driver import Driver, drive
from service_scaffold.streams.progress import Progress
from service_scaffold.streams.recovery import recover
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.state import PartitionState
from service_scaffold.streams.stores.base import Store
from service_scaffold.streams.stores.memory import MemoryBackend
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.track import read_note, write_note


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


@pytest.mark.parametrize('meanwhile', [False, True])
async def test_a_store_that_is_ahead_of_its_changelog_is_logged_again(meanwhile: bool) -> None:
    """Somebody has deleted the changelog; what another worker has done meanwhile wins."""
    app = counting()
    async with drive(app) as t:
        for word in ('a', 'b', 'c'):
            await t.send('words', word)
        await t.settle()
        await t.stop()
        t._broker.delete_topic('shop-counts-changelog')
        if meanwhile:
            offsets = t._broker.companion(Groups, Groups)['shop'].offsets
            for where, commit in offsets.items():
                number = read_note(commit.note).checkpoint
                offsets[where] = commit._replace(note=write_note(number + 1, commit.offset, {}))
        await t.start()
        expected = {} if meanwhile else {'a': 1, 'b': 1, 'c': 1}
        assert dict(app.tables['counts'].items()) == expected
        if not meanwhile:
            await t.restart(wipe_state=True)
            assert dict(app.tables['counts'].items()) == expected


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


async def commit_too_much(t: Driver) -> None:
    """The log has lost its end, as with the disk of a broker, and begins to grow again."""
    for _ in range(3):
        await t.send('words', 'a')
    await t.settle()
    await t.stop()
    journal = MemoryJournal(t._broker, who='another')
    await journal.connect()
    member = await journal.member('shop', None)  # type: ignore[arg-type] # never joins
    await member.commit({TopicPartition('words', 0): 7})
    await journal.close()
    await t.start()


async def test_a_log_that_ends_before_what_is_committed_is_never_passed_silently() -> None:
    async with drive(counting()) as t:
        with pytest.raises(errors.OffsetsLost, match='7 is committed, but the log ends at 3'):
            await commit_too_much(t)


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
@pytest.mark.parametrize(('choice', 'counted'), [('earliest', 6), ('latest', 3)])
async def test_whoever_allows_it_goes_on_in_a_log_that_ends_before_the_commit(
    choice: str, counted: int, guarantee: str
) -> None:
    app = counting(guarantee, on_offset_lost=choice)
    async with drive(app) as t:
        await commit_too_much(t)
        await t.settle()
        assert app.tables['counts']['a'] == counted
        await t.send('words', 'a')
        await t.settle()
        assert app.tables['counts']['a'] == counted + 1


# One partition, brought to the end of its changelog


CHANGES = TopicPartition('changes', 0)


def change(key: bytes, value: bytes | None, checkpoint: bytes) -> NewRecord:
    return NewRecord(CHANGES.topic, value, key, ((CHECKPOINT_HEADER, checkpoint),), 0)


async def changelog(*records: NewRecord) -> MemoryJournal:
    """Return a connection to a log with these records in a changelog."""
    journal = MemoryJournal(MemoryBroker('', SystemClock()), who='me')
    await journal.connect()
    await journal.create([TopicSpec(CHANGES.topic, 1, 1, {})])
    producer = await journal.producer()
    await producer.produce(records)
    return journal


async def recovered(journal: MemoryJournal, store: Store, committed: int | None) -> PartitionState:
    state = PartitionState('table', 0, store, CHANGES)
    await recover(journal, state, committed, Progress('table', 0, time.monotonic, ()))
    return state


async def test_what_is_taken_back_is_not_forgotten_by_another_crash() -> None:
    """The next checkpoint has the number of the abandoned one, whose records count from then on."""
    journal = await changelog(
        change(b'a', b'1', b'1'), change(b'a', b'9', b'2'), change(b'b', b'9', b'2')
    )
    stores = MemoryBackend()
    for _ in range(2):  # the second one finds the store of the first
        state = await recovered(journal, stores.open('table', 0), 1)
        assert dict(state.store.scan()) == {b'a': b'1'}
        assert state.take() == {b'a': b'1', b'b': None}
        state.close()
    producer = await journal.producer()
    await producer.produce([change(b'a', b'1', b'2'), change(b'b', None, b'2')])
    state = await recovered(journal, stores.open('table', 0), 2)
    assert not state.dirty
    assert dict(state.store.scan()) == {b'a': b'1'}
    state.close()
    state = await recovered(journal, MemoryBackend().open('table', 0), 2)
    assert dict(state.store.scan()) == {b'a': b'1'}


async def test_a_store_without_a_readable_position_is_built_again() -> None:
    """It is of another version: nobody can say what of it is still true."""
    journal = await changelog(change(b'a', b'1', b'1'))
    store = MemoryBackend().open('table', 0)
    store.write({b'old': b'1'}, b'nonsense')
    state = await recovered(journal, store, 1)
    assert dict(state.store.scan()) == {b'a': b'1'}


async def test_records_of_others_in_a_changelog_do_no_harm() -> None:
    """Without a key they say nothing; with a header that only looks like ours they count."""
    journal = await changelog(
        NewRecord(CHANGES.topic, b'spam', None, (), 0), change(b'a', b'1', b'celsius')
    )
    state = await recovered(journal, MemoryBackend().open('table', 0), 7)
    assert dict(state.store.scan()) == {b'a': b'1'}


async def test_what_was_abandoned_before_the_guarantee_rose_does_not_count() -> None:
    """Killed under at-least-once, and started as exactly-once: what was open is handled again."""
    app = counting()
    async with drive(app) as t:
        await t.send('words', 'a')
        await t.settle()
        newest = t.read('shop-counts-changelog')[-1]
        late = str(int(newest.headers[CHECKPOINT_HEADER]) + 1).encode()
        await log(
            t, NewRecord('shop-counts-changelog', b'9', b'a', ((CHECKPOINT_HEADER, late),), 0)
        )
        await t.stop()
        app.configure(dataclasses.replace(app.settings, guarantee='exactly_once'))
        for _ in range(2):
            t._stores.wipe()
            await t.start()
            assert dict(app.tables['counts'].items()) == {'a': 1}
            await t.settle()
            await t.stop()
        await t.start()
