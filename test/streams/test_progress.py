"""Recoveries as others see them: listeners, `on_recover`, log, status."""

from __future__ import annotations

import logging

import pytest

from service_scaffold.streams.driver import drive
from service_scaffold.streams.progress import Progress, RestoreListener
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology


def counting(guarantee: str) -> Topology:
    app = Topology(StreamSettings('shop', guarantee=guarantee))
    counts = app.Table('counts', default=int)

    @app.agent(app.topic('words', partitions=1))
    async def count(stream):
        async for word in stream:
            counts[word] += 1

    return app


class Diary(RestoreListener):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.entries: list[tuple] = []

    def on_restore_start(self, *args):
        self.entries.append(('start', *args))

    def on_restore_batch(self, *args):
        self.entries.append(('batch', *args))

    def on_restore_end(self, *args):
        self.entries.append(('end', *args))

    def on_restore_suspended(self, *args):
        self.entries.append(('suspended', *args))


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
async def test_a_cold_recovery_is_told_of(guarantee):
    """Start, batches, end; and `on_recover` when the values are there, before the agents begin."""
    app = counting(guarantee)
    diary = Diary()
    app.restore_listeners.append(diary)
    counts = app.tables['counts']
    recovered = []

    @counts.on_recover
    async def with_number(partition):
        recovered.append(partition)

    @counts.on_recover
    def without():
        recovered.append('any')

    async with drive(app) as t:
        assert diary.entries == [], 'there was nothing to recover'
        assert recovered == [0, 'any']
        for word in 'abc':
            await t.send('words', word)
        await t.settle()
        await t.restart()
        batches = [entry for entry in diary.entries if entry[0] == 'batch']
        assert batches == [], 'warm: there is nothing to read'
        diary.entries.clear()
        await t.restart(wipe_state=True)
    kinds = [entry[0] for entry in diary.entries]
    assert kinds == ['start', 'batch', 'end']
    assert {entry[1:3] for entry in diary.entries} == {('counts', 0)}
    assert diary.entries[-1] == ('end', 'counts', 0, 3)
    assert recovered == [0, 'any'] * 3


async def test_a_listener_that_raises_changes_nothing(caplog):
    """It is logged, and the recovery goes on."""
    app = counting('at_least_once')

    class Broken(RestoreListener):
        def on_restore_start(self, *args):
            raise ValueError('of no concern')

    app.restore_listeners.append(Broken())
    async with drive(app) as t:
        await t.send('words', 'a')
        await t.settle()
        await t.restart(wipe_state=True)
        assert app.tables['counts']['a'] == 1
    assert 'on_restore_start' in caplog.text


async def test_on_recover_that_raises_is_tried_again():
    """The agents of the partition begin when it has gone well."""
    app = counting('at_least_once')
    calls = []

    @app.tables['counts'].on_recover
    def callback():
        calls.append(1)
        if len(calls) < 3:
            raise OSError('not yet')

    async with drive(app) as t:
        await t.advance(10)
        await t.send('words', 'a')
        await t.settle()
        assert app.tables['counts']['a'] == 1
    assert len(calls) == 3


def test_a_long_recovery_is_logged_with_percent(caplog):
    """Every few seconds, and at its end; a short one is not."""
    now = [0.0]
    progress = Progress('counts', 2, lambda: now[0])
    with caplog.at_level(logging.INFO):
        progress.begin(100, 1100)
        progress.advance(200, 100)
        assert caplog.messages == []
        now[0] = 6.0
        progress.advance(600, 400)
        now[0] = 12.0
        progress.advance(1100, 500)
        progress.end(whole=True)
    assert caplog.messages == [
        'Table counts, partition 2: 50 % recovered (500 of 1000), 6 s left',
        'Table counts, partition 2: 100 % recovered (1000 of 1000), 0 s left',
        'Table counts, partition 2: recovered, 1000 records in 12.0 s',
    ]


def test_progress_that_is_broken_off_is_suspended():
    """The listener is told once, and not of an end."""
    diary = Diary()
    progress = Progress('counts', 1, listeners=[diary])
    progress.begin(0, 10)
    progress.advance(4, 4)
    progress.end(whole=False)
    progress.end(whole=False)
    assert [entry[0] for entry in diary.entries] == ['start', 'batch', 'suspended']
    assert progress.shown() == {'read': 4, 'total': 10, 'percent': 40}


def test_nothing_is_done_before_it_is_known_how_much_there_is():
    """Whoever looks while the broker is asked for that must not take it for done."""
    progress = Progress()
    assert progress.shown() == {'read': 0, 'total': 0, 'percent': 0}
    progress.begin(10, 20)
    assert progress.percent == 0
    progress.advance(15, 5)
    assert progress.percent == 50
    nothing = Progress()
    nothing.end(whole=True)
    assert nothing.percent == 100
