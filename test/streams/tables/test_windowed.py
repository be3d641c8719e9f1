"""Windowed tables on the log in memory: what closes, when, how often, and with what value."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict

import pytest

from service_scaffold import errors
from service_scaffold.journal.base import NewRecord
from service_scaffold.streams.driver import drive
from service_scaffold.streams.records import Record
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.tables.scattered import _DECODE
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.windows import (
    HoppingWindow,
    SessionWindow,
    SlidingWindow,
    TumblingWindow,
)
from service_scaffold.testing.conformance.inbox import eventually

GUARANTEES = ('at_least_once', 'exactly_once')


def shop(guarantee='at_least_once') -> Topology:
    return Topology(StreamSettings('shop', guarantee=guarantee))


def counting(app: Topology, **options):
    """Declare a table of sums in windows, and the agent that fills it from `orders`."""
    orders = app.topic('orders', value_type=int, partitions=options.pop('partitions', 1))
    concurrency = options.pop('concurrency', 1)
    table = app.Table('sums', default=int, **options)

    @app.agent(orders, concurrency=concurrency)
    async def add(stream):
        async for event in stream.events():
            table[event.key] += event.value

    return table


def finals(t, topic: str = 'closed') -> list[tuple[str, float, float, int]]:
    """Return what was sent to a topic on closing: key, start, end, value."""
    return sorted(
        (e.key, float(e.headers['window-start']), float(e.headers['window-end']), e.value)
        for e in t.read(topic)
    )


# Equal to what a batch would find


def tumbling(events):
    sums = Counter()
    for t, key, value in events:
        sums[key, t // 10 * 10, t // 10 * 10 + 10] += value
    return sums


def hopping(events):
    sums = Counter()
    for t, key, value in events:
        for start in range(t // 5 * 5 - 10, t // 5 * 5 + 1, 5):
            if start <= t < start + 15:
                sums[key, start, start + 15] += value
    return sums


def sliding(events):
    sums = Counter()
    for own, key in {(t, key) for t, key, _ in events}:
        for t, other, value in events:
            if key == other and own - 6 <= t < own + 4:
                sums[key, own - 6, own + 4] += value
    return sums


def sessions(events):
    sums = Counter()
    by_key = defaultdict(list)
    for t, key, value in sorted(events):
        by_key[key].append((t, value))
    for key, values in by_key.items():
        first = last = None
        total = 0
        for t, value in values:
            if last is not None and t >= last + 4:
                sums[key, first, last + 4] = total
                first, total = t, 0
            elif last is None:
                first = t
            total += value
            last = t
        sums[key, first, last + 4] = total
    return sums


def shuffled(rng: random.Random, events, grace: int):
    """Let each event come up to `grace` later than it should."""
    return sorted(events, key=lambda event: event[0] + rng.uniform(0, grace - 1))


@pytest.mark.parametrize('guarantee', GUARANTEES)
@pytest.mark.parametrize(
    ('window', 'batch'),
    [
        (TumblingWindow(10, grace=20), tumbling),
        (TumblingWindow(10, expires=15, grace=20), tumbling),
        (HoppingWindow(15, 5, expires=1, grace=20), hopping),
        (SlidingWindow(6, 4, grace=20), sliding),
        (SlidingWindow(6, 4, expires=0, grace=20), sliding),
        (SessionWindow(4, grace=20), sessions),
        (SessionWindow(4, expires=10, grace=20), sessions),
    ],
)
@pytest.mark.parametrize('seed', range(3))
async def test_final_values_are_those_of_a_batch(guarantee, window, batch, seed):
    """Shuffled within the grace, over lanes and restarts: one final record per key and window."""
    rng = random.Random(seed)
    events = [(rng.randrange(200), rng.choice('abcdefg'), rng.randrange(100)) for _ in range(150)]
    app = shop(guarantee)
    table = counting(app, window=window, on_window_close='closed', concurrency=3, partitions=4)
    async with drive(app) as t:
        for number, (at, key, value) in enumerate(shuffled(rng, events, 20)):
            await t.send('orders', value, key=key, timestamp=at)
            if number % 40 == 39:
                await t.settle()
            if number == 79:
                await t.restart(wipe_state=seed % 2 == 0)
        await t.advance(260)
        expected = sorted((key, a, b, value) for (key, a, b), value in batch(events).items())
        assert finals(t) == expected
        assert table.late == 0
        if window.expires_ms is not None:
            assert len(table) == 0


# When windows close


async def test_a_window_closes_at_its_end_plus_grace_and_no_earlier():
    app = shop()
    closed = []
    counting(
        app,
        window=TumblingWindow(10, grace=5),
        on_window_close=lambda key, window, value: closed.append((key, window.start, value)),
    )
    async with drive(app) as t:
        await t.send('orders', 1, key='a', timestamp=9.999)
        await t.send('orders', 2, key='a', timestamp=10)
        await t.send('orders', 4, key='a', timestamp=14.999)
        await t.settle()
        assert closed == []
        await t.send('orders', 8, key='a', timestamp=15)
        await t.settle()
        assert closed == [('a', 0.0, 1)]


async def test_time_alone_closes_windows_in_the_driver_each_at_its_own_time():
    app = shop()
    closed = []
    counting(
        app,
        window=TumblingWindow(60, grace=1),
        on_window_close=lambda key, window, value: closed.append((t.now, window.end)),
    )
    async with drive(app) as t:
        for at in (0, 70, 130):
            await t.send('orders', 1, key='a', timestamp=at)
        await t.advance(125)
        await t.advance(100)
    assert closed == [(0, 60), (0, 120), (181, 180)]


async def test_time_in_one_partition_closes_nothing_in_another():
    app = shop()
    table = counting(app, window=TumblingWindow(10), on_window_close='closed', partitions=4)
    async with drive(app) as t:
        await t.send('orders', 1, key='a', timestamp=1, partition=0)
        await t.send('orders', 2, key='b', timestamp=2, partition=1)
        await t.send('orders', 4, key='a', timestamp=50, partition=0)
        await t.settle()
        assert finals(t) == [('a', 0, 10, 1)]
        await t.send('orders', 8, key='b', timestamp=3, partition=1)
        await t.settle()
        await t.send('orders', 16, key='b', timestamp=10, partition=1)
        await t.settle()
        assert finals(t) == [('a', 0, 10, 1), ('b', 0, 10, 10)]
        assert table.late == 0


async def test_a_fast_lane_does_not_close_what_a_slow_one_still_writes():
    """What is late depends on the order of the events, not on who has finished first."""
    app = shop()
    orders = app.topic('orders', value_type=int, partitions=1)
    table = app.Table('sums', default=int, window=TumblingWindow(10), on_window_close='closed')
    gate = asyncio.Event()
    held = []

    @app.agent(orders, concurrency=8)
    async def add(stream):
        async for event in stream.events():
            if event.key == 'slow':
                held.append(event)
                await gate.wait()
            table[event.key] += event.value

    async with drive(app) as t:
        await t.send('orders', 1, key='slow', timestamp=5)
        for n in range(40):
            await t.send('orders', 1, key=f'k{n}', timestamp=6 + n)
        settling = asyncio.ensure_future(t.settle())
        await eventually(lambda: held and add.stats.processed >= 30)
        assert finals(t) == []
        gate.set()
        await settling
        assert ('slow', 0, 10, 1) in finals(t)
        assert len(finals(t)) == 35
        assert table.late == 0


async def test_an_event_in_hand_keeps_open_what_it_has_written():
    """Another topic, whose time is far ahead, feeds the same table meanwhile."""
    app = shop()
    slow = app.topic('slow', value_type=int, partitions=1)
    quick = app.topic('quick', value_type=int, partitions=1)
    table = app.Table('sums', default=int, window=TumblingWindow(10), on_window_close='closed')
    gate, written = asyncio.Event(), asyncio.Event()

    @app.agent(slow)
    async def add_slowly(stream):
        async for n in stream:
            table['a'] += n
            written.set()
            await gate.wait()
            table['a'] += n

    @app.agent(quick)
    async def add_quickly(stream):
        async for n in stream:
            table['a'] += n

    async with drive(app) as t:
        await t.send(quick, 1, timestamp=4)
        await t.settle()
        await t.send(slow, 2, timestamp=5)
        settling = asyncio.ensure_future(t.settle())
        await written.wait()
        await t.send(quick, 4, timestamp=50)
        await eventually(lambda: add_quickly.stats.processed == 2)
        assert finals(t) == []
        gate.set()
        await settling
        assert finals(t) == [('a', 0, 10, 1 + 2 + 2)]
        await t.send(slow, 8, timestamp=6)
        gate.set()
        await t.settle()
        assert table.late == 2


async def test_a_retried_event_still_finds_its_window_open():
    app = shop()
    orders = app.topic('orders', value_type=int, partitions=1)
    table = app.Table('sums', default=int, window=TumblingWindow(10), on_window_close='closed')
    failures = []

    @app.agent(orders, concurrency=8)
    async def add(stream):
        async for event in stream.events():
            table[event.key] += event.value
            if event.key == 'odd' and len(failures) < 2:
                failures.append(table[event.key].value())
                raise OSError('not now')

    async with drive(app) as t:
        await t.send('orders', 7, key='odd', timestamp=5)
        for n in range(20):
            await t.send('orders', 1, key=f'k{n}', timestamp=30)
        await t.settle()
        assert finals(t) == [('odd', 0, 10, 7)]
        assert failures == [7, 7]


# What is done about it


@pytest.mark.parametrize('guarantee', GUARANTEES)
async def test_a_slow_function_holds_up_closings_and_nothing_else(guarantee):
    app = shop(guarantee)
    out = app.topic('out')
    gate = asyncio.Event()

    async def on_close(key, window, value):
        await out.send(key=key, value=[window.start, value])
        await gate.wait()

    table = counting(app, window=TumblingWindow(10), on_window_close=on_close)
    async with drive(app) as t:
        for at in (1, 11, 21, 31):
            await t.send('orders', at, key='a', timestamp=at)
        settling = asyncio.ensure_future(t.settle())
        async with asyncio.timeout(10):
            while table.get('a') != 31:
                await asyncio.sleep(0.001)
                await t._worker.session.flush()  # a checkpoint while it is at work
        assert t.read('out') == []
        gate.set()
        await settling
        assert [e.value for e in t.read('out')] == [[0.0, 1], [10.0, 11], [20.0, 21]]
        assert [e.timestamp for e in t.read('out')] == [9.999, 19.999, 29.999]


@pytest.mark.parametrize('guarantee', GUARANTEES)
async def test_a_window_whose_function_was_interrupted_closes_again(guarantee):
    """What has closed and what was done about it are committed together, or not at all."""
    app = shop(guarantee)
    out = app.topic('out')
    calls = []

    async def on_close(key, window, value):
        calls.append(window.start)
        await out.send(key=key, value=value)
        if len(calls) == 2:
            await asyncio.get_running_loop().create_future()

    counting(app, window=TumblingWindow(10), on_window_close=on_close)
    async with drive(app) as t:
        for at in (1, 11, 21):
            await t.send('orders', at, key='a', timestamp=at)
        settling = asyncio.ensure_future(t.settle())
        await eventually(lambda: len(calls) == 2)
        session = t._worker.session
        await session.flush()
        session._fail(errors.ConnectionLost('as if'))
        await settling
        assert calls == [0.0, 10.0, 10.0]
        assert [e.value for e in t.read('out')] == [1, 11]


async def test_a_function_that_fails_is_tried_three_times_and_counts_once():
    app = shop()
    out = app.topic('out')
    tries = Counter()

    async def on_close(key, window, value):
        tries[key] += 1
        await out.send(key=key, value=value)
        if key == 'never' or tries[key] < 3:
            raise OSError('not now')

    counting(app, window=TumblingWindow(10), on_window_close=on_close)
    async with drive(app) as t:
        for key in ('never', 'third'):
            await t.send('orders', 5, key=key, timestamp=1)
        await t.advance(20)
        assert tries == {'never': 3, 'third': 3}
        assert [e.key for e in t.read('out')] == ['third']
        (letter,) = t.read('shop-sums-closed.dlq')
        assert (letter.key, letter.value) == ('never', 5)
        assert letter.headers['window-end'] == b'10.000'


async def test_a_function_may_write_another_table():
    app = shop()
    totals = app.Table('totals', default=int)

    def on_close(key, window, value):
        totals[key] += value

    counting(app, window=TumblingWindow(10), on_window_close=on_close)
    async with drive(app) as t:
        for at in (1, 2, 11, 21):
            await t.send('orders', at, key='a', timestamp=at)
        await t.advance(40)
        assert totals['a'] == 35


# Windows of windows


@pytest.mark.parametrize('guarantee', GUARANTEES)
@pytest.mark.parametrize('named', [True, False])
async def test_a_table_that_is_fed_by_closings_has_their_time(guarantee, named):
    """Tens become forties, and these close as well; nothing is late, however far time jumps."""
    app = shop(guarantee)
    forties = app.Table('forties', default=int, window=TumblingWindow(40), on_window_close='forty')
    elsewhere = {'forties': forties}

    def seen(key, window, value):
        forties[key] += value

    def hidden(key, window, value):
        elsewhere['forties'][key] += value

    counting(app, window=TumblingWindow(10), on_window_close=seen if named else hidden)
    async with drive(app) as t:
        for at in (1, 11, 21, 31, 32, 41):
            await t.send('orders', at, key='a', timestamp=at)
        await t.send('orders', 1, key='a', timestamp=1000)
        await t.settle()
        assert finals(t, 'forty') == [('a', 0, 40, 96), ('a', 40, 80, 41)]
        await t.restart(wipe_state=True)
        await t.send('orders', 1, key='a', timestamp=2000)
        await t.settle()
        assert finals(t, 'forty')[2:] == [('a', 1000, 1040, 1)]
        assert forties.late == 0


async def test_time_alone_goes_on_in_what_is_fed():
    """The last ten of a forty closes at the same moment as that, and is in it all the same."""
    app = shop()
    forties = app.Table('forties', default=int, window=TumblingWindow(40), on_window_close='forty')

    def on_close(key, window, value):
        forties[key] += value

    counting(app, window=TumblingWindow(10), on_window_close=on_close)
    async with drive(app) as t:
        for at in (1, 31):
            await t.send('orders', at, key='a', timestamp=at)
        await t.advance(39)
        assert finals(t, 'forty') == []
        await t.advance(1)
        assert finals(t, 'forty') == [('a', 0, 40, 32)]


async def test_what_a_function_has_written_elsewhere_stays_open_while_it_runs():
    """Others let the time of that table go on meanwhile; its window closes with all that is in."""
    app = shop()
    gate, began = asyncio.Event(), asyncio.Event()
    both = app.Table(
        'both', default=int, window=TumblingWindow(100), on_window_close='closed', help='both'
    )

    async def on_close(key, window, value):
        both[key] += value
        if not gate.is_set():
            began.set()
            await gate.wait()

    counting(app, window=TumblingWindow(10), on_window_close=on_close)
    visits = app.topic('visits', value_type=int, partitions=1)

    @app.agent(visits)
    async def visit(stream):
        async for event in stream.events():
            both[event.key] += event.value

    async with drive(app) as t:
        await t.send('visits', 1000, key='a', timestamp=50)
        await t.settle()
        await t.send('orders', 1, key='a', timestamp=55)
        await t.send('orders', 5, key='b', timestamp=61)
        settling = asyncio.ensure_future(t.settle())
        await asyncio.wait_for(began.wait(), 10)
        await t.send('visits', 7, key='a', timestamp=500)
        async with asyncio.timeout(10):
            while both.get('a') != 7:
                await asyncio.sleep(0.001)
                await t._worker.session.flush()
        assert finals(t) == []
        gate.set()
        await settling
        assert finals(t) == [('a', 0, 100, 1001)]


# Late events


async def test_a_late_write_changes_nothing_and_is_told():
    app = shop()
    told = []

    async def on_late(key, window, event):
        await asyncio.sleep(0)
        told.append((key, window.start, event.value))

    table = counting(app, window=HoppingWindow(10, 5), on_window_close='closed', on_late=on_late)
    async with drive(app) as t:
        for at in (1, 6, 12, 7, 3):
            await t.send('orders', at, key='a', timestamp=at)
        await t.advance(60)
        assert told == [('a', 0.0, 7), ('a', -5.0, 3), ('a', 0.0, 3)]
        assert table.late == 3
        assert finals(t) == [('a', -5, 5, 1), ('a', 0, 10, 7), ('a', 5, 15, 25), ('a', 10, 20, 12)]


async def test_late_events_go_to_a_topic_as_they_came():
    app = shop()
    counting(app, window=TumblingWindow(10), on_late='late')
    async with drive(app) as t:
        for at in (1, 15, 2):
            await t.send('orders', at, key='a', timestamp=at)
        await t.settle()
        assert [(e.key, e.value, e.timestamp) for e in t.read('late')] == [('a', 2, 2.0)]


async def test_an_attempt_that_fails_counts_no_late_write():
    app = shop()
    orders = app.topic('orders', value_type=int, partitions=1)
    told = []
    table = app.Table(
        'sums',
        default=int,
        window=TumblingWindow(10),
        on_late=lambda key, window, event: told.append(event.value),
    )
    tries = []

    @app.agent(orders)
    async def add(stream):
        async for n in stream:
            table['a'] += n
            tries.append(n)
            if n == 2 and tries.count(2) == 1:
                raise OSError('not now')

    async with drive(app) as t:
        for at in (1, 15, 2):
            await t.send('orders', at, key='a', timestamp=at)
        await t.settle()
        assert (told, table.late, tries.count(2)) == ([2], 1, 2)


@pytest.mark.parametrize('wipe', [False, True])
async def test_stream_time_outlives_a_restart(wipe):
    app = shop()
    table = counting(app, window=TumblingWindow(10), on_window_close='closed')
    async with drive(app) as t:
        for at in (1, 25):
            await t.send('orders', at, key='a', timestamp=at)
        await t.settle()
        await t.restart(wipe_state=wipe)
        await t.send('orders', 2, key='a', timestamp=2)
        await t.send('orders', 12, key='a', timestamp=12)
        await t.send('orders', 26, key='a', timestamp=26)
        await t.advance(100)
        assert finals(t) == [('a', 0, 10, 1), ('a', 20, 30, 51)]
        assert table.late == 2


@pytest.mark.parametrize('wipe', [False, True])
async def test_stream_time_is_kept_also_where_nothing_has_closed(wipe):
    app = shop()
    orders = app.topic('orders', value_type=int, partitions=1)
    table = app.Table('sums', default=int, window=TumblingWindow(10))

    @app.agent(orders)
    async def add(stream):
        async for n in stream:
            if n:
                table['a'] += n

    async with drive(app) as t:
        await t.send('orders', 0, timestamp=25)
        await t.settle()
        await t.restart(wipe_state=wipe)
        await t.send('orders', 1, timestamp=2)
        await t.settle()
        assert (len(table), table.late) == (0, 1)


# Reading and writing


async def test_reading_says_which_window():
    app = shop()
    orders = app.topic('orders', value_type=int, partitions=1)
    table = app.Table('sums', default=int, window=TumblingWindow(10, grace=100))
    seen = []

    @app.agent(orders)
    async def add(stream):
        async for n in stream:
            one = table['a']
            one += n
            table['a'] = table['a'] + 1000
            seen.append((one.value(), one.current(), one.now(), one.delta(10), 'a' in table))

    async with drive(app, start=20.0) as t:
        for at in (25, 35, 27):
            await t.send('orders', at, key='a', timestamp=at)
        await t.settle()
        assert seen == [
            (1025, 1025, 1025, 0, True),
            (1035, 1035, 1025, 1025, True),
            (2052, 1035, 2052, 0, True),
        ]
        assert table['a'].value() == table['a'].current() == 1035
        assert table['a'].now() == 2052
        assert table['a'].delta(10) == 2052
        assert table.get('b') is None
        assert [(w.start, value) for w, value in table['a'].items()] == [(20, 2052), (30, 1035)]
        assert {(key, w.end): value for (key, w), value in table.items()} == {
            ('a', 30): 2052,
            ('a', 40): 1035,
        }


async def test_assigning_and_deleting_are_about_each_open_window():
    app = shop()
    orders = app.topic('orders', partitions=1)
    table = app.Table('last', window=HoppingWindow(10, 5))
    missing = []

    @app.agent(orders)
    async def keep(stream):
        async for value in stream:
            if value is not None and value < 0:
                del table['a']
            elif value is not None:
                table['a'] = value
            try:
                table['b'].value()
            except KeyError as error:
                missing.append(error.args)

    async with drive(app) as t:
        await t.send('orders', 3, key='a', timestamp=7)
        await t.settle()
        assert sorted((w.start, value) for (_, w), value in table.items()) == [(0, 3), (5, 3)]
        await t.send('orders', 4, key='a', timestamp=12)
        await t.settle()
        assert sorted((w.start, value) for (_, w), value in table.items()) == [
            (0, 3),
            (5, 4),
            (10, 4),
        ]
        await t.send('orders', -1, key='a', timestamp=13)
        await t.settle()
        assert [(w.start, value) for (_, w), value in table.items()] == [(0, 3)]
        assert missing == [('b',)] * 3


class Reading(Record):
    at: float
    value: int


async def test_a_view_is_about_another_time():
    app = shop()
    readings = app.topic('readings', value_type=Reading, partitions=1)
    table = app.Table('sums', default=int).tumbling(10, grace=1000)
    by_field = table.relative_to_field(Reading.at)
    by_clock = table.relative_to_now()
    seen = []

    @app.agent(readings)
    async def add(stream):
        async for reading in stream:
            by_field['a'] += reading.value
            by_clock['clock'] += 1
            seen.append((by_field['a'].value(), table['a'].value(), by_field['a'].delta(10)))

    async with drive(app, start=100.0) as t:
        await t.send('readings', Reading(5.0, 2), timestamp=50)
        await t.send('readings', Reading(15.0, 3), timestamp=51)
        await t.settle()
        assert seen == [(2, 0, 0), (3, 0, 2)]
        assert [(w.start, value) for w, value in table['clock'].items()] == [(100, 2)]
        assert table.relative_to(5.0)['a'].value() == 2


def test_a_table_is_written_by_agents_only():
    table = shop().Table('sums', default=int, window=TumblingWindow(10))
    with pytest.raises(errors.OutsideAgent):
        table['a'] += 1


@pytest.mark.parametrize(
    'options',
    [
        {'window': TumblingWindow(10), 'ttl': 5},
        {'on_late': 'late'},
        {'on_window_close': 'closed'},
        {'idle_advance': 1},
        {'ttl': 0},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match=r'sums|ttl'):
        shop().Table('sums', **options)


def test_a_table_that_was_given_windows_is_of_no_use():
    app = shop()
    plain = app.Table('sums', default=int)
    assert app.tables['sums'] is plain
    windowed = plain.using_window(TumblingWindow(10))
    assert app.tables['sums'] is windowed
    with pytest.raises(errors.StreamError, match='has windows now'):
        plain.get('a')
    with pytest.raises(errors.StreamError):
        plain.hopping(10, 5)


# Sessions


async def test_an_event_between_two_sessions_merges_them():
    app = shop()
    orders = app.topic('orders', partitions=1)
    table = app.Table(
        'visits', default=list, window=SessionWindow(10, grace=100), on_window_close='closed'
    )

    @app.agent(orders)
    async def visit(stream):
        async for page in stream:
            table['a'] += [page]

    async with drive(app) as t:
        for page, at in (('x', 0), ('y', 15), ('z', 8)):
            await t.send('orders', page, timestamp=at)
        await t.settle()
        assert [(w.start, w.end, v) for w, v in table['a'].items()] == [(0, 25, ['x', 'y', 'z'])]
        await t.advance(200)
        assert finals(t) == [('a', 0, 25, ['x', 'y', 'z'])]


# Records of others


@pytest.mark.parametrize('window', [TumblingWindow(10), SessionWindow(4)], ids=repr)
async def test_records_of_others_in_the_changelog_stop_nothing(window):
    """As of a table of this name that had no windows: they are no windows, and close none."""
    app = shop()
    table = counting(app, window=window, on_window_close='closed')
    names = ['s', 'w', 'walter', 'wilhelmine-and-others', 'c', 'carl', 'christian-and-all-others']
    async with drive(app) as t:
        await t.send('orders', 1, key='a', timestamp=1)
        await t.settle()
        for name in names:
            await t._append(NewRecord('shop-sums-changelog', b'5', name.encode(), (), 0))
        await t.restart(wipe_state=True)
        await t.send('orders', 2, key='a', timestamp=100)
        await t.settle()
        assert [value for *_, value in finals(t)] == [1]
        assert len(table) == 2


# Times that are none


@pytest.mark.parametrize(
    'window',
    [
        TumblingWindow(10, expires=20),
        HoppingWindow(10, 5),
        SlidingWindow(6, 4, expires=20),
        SessionWindow(4),
    ],
    ids=repr,
)
@pytest.mark.parametrize('ms', [2**63 - 1, 2**62, -(2**62), -(2**63)])
async def test_an_impossible_time_is_dead_lettered_and_stops_nothing(window, ms):
    """Nobody's windows close because of it, and they close in time afterwards."""
    app = shop()
    table = counting(app, window=window, on_window_close='closed')
    async with drive(app) as t:
        await t.send('orders', 1, key='a', timestamp=7)
        await t.settle()
        journal = app.topics['orders'].record('a', 9)._replace(timestamp=ms)
        await t._append(journal)
        await t.settle()
        assert len(t.read('orders.dlq')) == 1
        assert len(table) > 0
        assert finals(t) == []
        await t.restart(wipe_state=True)
        await t.send('orders', 1, key='b', timestamp=100)
        await t.settle()
        assert {value for *_, value in finals(t)} == {1}


@pytest.mark.parametrize('window', [TumblingWindow(10), SessionWindow(4), SlidingWindow(6, 4)])
async def test_times_before_the_epoch_are_times(window):
    app = shop()
    counting(app, window=window, on_window_close='closed')
    async with drive(app) as t:
        for at in (-25, -24, -3):
            await t.send('orders', 1, key='a', timestamp=at)
        await t.settle()
        assert finals(t)[0][3] in (1, 2)
        assert all(end <= -3 for _, _, end, _ in finals(t))


# How much is kept


@pytest.mark.parametrize('wipe', [False, True])
async def test_sliding_windows_that_never_expire_let_go_of_what_only_new_ones_need(wipe):
    """What happened at exactly one time is kept while a window may still begin with it."""
    app = shop()
    table = counting(app, window=SlidingWindow(6, 4, grace=2), on_window_close='closed')

    def rows():
        (state,) = table.here.values()
        return [_DECODE(data) for key, data in state.store.scan(b'w', b'x')]

    async with drive(app) as t:
        for at in (0, 3, 20, 14, 30):  # 14: its own window has closed; later ones begin with it
            await t.send('orders', 1, key='a', timestamp=at)
        await t.settle()
        await t.restart(wipe_state=wipe)
        await t.send('orders', 1, key='a', timestamp=200)
        await t.settle()
        assert [row.value for row in rows()].count(None) == 0
        assert sum(row.pane is not None for row in rows()) == 1  # that of the newest
        assert len(table) == 5
        assert len(finals(t)) == 4


async def test_a_day_of_windows_stays_small_and_leaves_tombstones():
    """Scenario 25: a thousand windows an hour for a day, of which an hour is kept."""
    app = shop()
    hours = app.topic('hours', partitions=1)
    table = app.Table('sums', default=int, window=TumblingWindow(3600, expires=3600))

    @app.agent(hours)
    async def fill(stream):
        async for hour in stream:
            for n in range(1000):
                table[f'k{n}'] += hour

    most = 0
    async with drive(app) as t:
        for hour in range(24):
            await t.send(hours, hour, timestamp=hour * 3600)
            await t.settle()
            most = max(most, *(len(state.store) for state in table.here.values()))
        records = t.read('shop-sums-changelog')
    assert 2000 <= most <= 2200
    assert sum(record.value is None for record in records) == 22_000
    assert table.closed == 23_000


async def test_a_session_that_grows_costs_one_record_at_each_checkpoint():
    app = shop()
    counting(app, window=SessionWindow(10))
    async with drive(app) as t:
        for at in range(100):
            await t.send('orders', 1, key='a', timestamp=at)
        await t.settle()
        keys = Counter(bytes(e.message.key[:1]) for e in t.read('shop-sums-changelog'))
        assert keys[b'w'] <= 2
        assert keys[b'c'] <= 2 + 2 * 100 // 10


# Idle partitions


async def test_an_idle_partition_follows_the_clock_if_asked():
    """The clock moves as it does outside of the driver: nobody tells the tables."""
    app = shop()
    closed = []
    counting(
        app,
        window=TumblingWindow(10),
        idle_advance=3,
        on_window_close=lambda key, window, value: closed.append(window.end),
    )
    async with drive(app, start=1000.0) as t:
        await t.send('orders', 1, key='a', timestamp=5)
        await t.settle()
        for _ in range(7):
            await t.clock.advance(1.0)
        await t.settle()
        assert closed == []  # 7 s later it is 5 + 7 - 3
        for _ in range(2):
            await t.clock.advance(1.0)
        await t.settle()
        assert closed == [10]


async def test_an_idle_partition_stands_still_unless_asked():
    app = shop()
    table = counting(app, window=TumblingWindow(10))
    async with drive(app, start=1000.0) as t:
        await t.send('orders', 1, key='a', timestamp=5)
        await t.settle()
        await t.clock.advance(100)
        await t.settle()
        assert table.closed == 0
