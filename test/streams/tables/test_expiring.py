"""Tables with `ttl`: a key is gone some time after its last write, by the events' own time."""

from __future__ import annotations

import random

import pytest

from service_scaffold.streams.driver import drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology


def shop(guarantee='at_least_once') -> Topology:
    return Topology(StreamSettings('shop', guarantee=guarantee))


def remembering(app: Topology, ttl: float, concurrency: int = 1, **options):
    """Declare a table with the last value of each key, and the agent that fills it."""
    orders = app.topic('orders', partitions=1)
    last = app.Table('last', default=int, ttl=ttl, **options)

    @app.agent(orders, concurrency=concurrency)
    async def keep(stream):
        async for event in stream.events():
            if event.value is None:
                last.pop(event.key, None)
            else:
                last[event.key] += event.value

    return last


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
async def test_a_key_is_gone_a_ttl_after_its_last_write(guarantee):
    app = shop(guarantee)
    last = remembering(app, 10)
    async with drive(app) as t:
        await t.send('orders', 1, key='a', timestamp=0)
        await t.send('orders', 2, key='b', timestamp=5)
        await t.send('orders', 4, key='a', timestamp=9)
        await t.settle()
        assert dict(last.items()) == {'a': 5, 'b': 2}
        await t.advance(15)
        assert dict(last.items()) == {'a': 5}
        await t.advance(3.999)
        assert 'a' in last
        await t.advance(0.001)
        assert (list(last), last['a'], last.get('a'), len(last)) == ([], 0, None, 0)


async def test_an_event_that_comes_a_ttl_later_does_not_see_the_key():
    """Also before it has been removed: what an event sees depends on its own time only."""
    app = shop()
    last = remembering(app, 10)
    async with drive(app) as t:
        for at in (0, 9, 19, 29, 38):
            await t.send('orders', 1, key='a', timestamp=at)
        await t.settle()
        assert last['a'] == 2  # 0 and 9; 19; 29 and 38


async def test_what_has_expired_leaves_the_store_with_a_tombstone():
    app = shop()
    last = remembering(app, 10)
    async with drive(app) as t:
        for at in range(100):
            await t.send('orders', 1, key=f'k{at}', timestamp=at)
            if at % 10 == 9:
                await t.settle()
                (state,) = last.here.values()
                assert len(state.store) <= 2 * 11 + 1  # a value and an alarm each, and the time
        await t.advance(200)
        assert len(state.store) == 1
        newest = {e.message.key: e.value for e in t.read('shop-last-changelog')}
        assert [key for key, value in newest.items() if value is not None] == [b's']


async def test_writing_again_and_again_costs_one_record_at_each_checkpoint():
    app = shop()
    remembering(app, 10)
    async with drive(app) as t:
        for at in range(9):
            await t.send('orders', 1, key='a', timestamp=at)
            await t.settle()
        changed = [bytes(e.message.key[:1]) for e in t.read('shop-last-changelog')]
        assert changed.count(b'v') == 9
        assert changed.count(b'x') == 1


@pytest.mark.parametrize('wipe', [False, True])
async def test_time_goes_on_where_it_was_after_a_restart(wipe):
    app = shop()
    last = remembering(app, 10)
    async with drive(app) as t:
        await t.send('orders', 1, key='old', timestamp=0)
        await t.send('orders', 1, key='new', timestamp=8)
        await t.settle()
        await t.restart(wipe_state=wipe)
        assert dict(last.items()) == {'old': 1, 'new': 1}
        await t.send('orders', 1, key='other', timestamp=10)
        await t.settle()
        assert dict(last.items()) == {'new': 1, 'other': 1}


async def test_a_key_that_was_deleted_may_come_again():
    app = shop()
    last = remembering(app, 10)
    async with drive(app) as t:
        await t.send('orders', 1, key='a', timestamp=0)
        await t.send('orders', None, key='a', timestamp=1)
        await t.send('orders', 2, key='a', timestamp=2)
        await t.settle()
        assert last['a'] == 2
        await t.advance(11)
        assert last['a'] == 2
        await t.advance(1)
        assert 'a' not in last


async def test_an_older_event_does_not_shorten_a_life():
    app = shop()
    last = remembering(app, 10)
    async with drive(app) as t:
        await t.send('orders', 1, key='a', timestamp=5)
        await t.send('orders', 2, key='a', timestamp=3)
        await t.advance(14)
        assert last['a'] == 3
        await t.advance(1)
        assert 'a' not in last


@pytest.mark.parametrize('seed', range(4))
async def test_it_agrees_with_a_dictionary(seed):
    """Whatever comes in whatever order, over lanes and restarts."""
    rng = random.Random(seed)
    app = shop('exactly_once')
    last = remembering(app, 10, concurrency=3)
    times = sorted(rng.randrange(200) + rng.choice([0, 0, 0, -15]) for _ in range(150))
    rng.shuffle(window := times[50:60])
    times[50:60] = window
    model: dict[str, tuple[int, int]] = {}
    now = -1000
    async with drive(app) as t:
        for number, at in enumerate(times):
            key = rng.choice('abcdef')
            now = max(now, at)
            written, value = model.get(key, (-1000, 0))
            alive = value if written + 10 > now else 0
            model[key] = (max(written, at), alive + 1)
            await t.send('orders', 1, key=key, timestamp=at)
            if number % 40 == 39:
                await t.restart(wipe_state=number > 100)
        await t.settle()
        expected = {k: value for k, (written, value) in model.items() if written + 10 > now}
        assert dict(last.items()) == expected


@pytest.mark.parametrize('ms', [2**63 - 1, 2**62, -(2**63)])
async def test_an_impossible_time_is_dead_lettered_and_stops_nothing(ms):
    """Keys go on expiring afterwards, also after a restart."""
    app = shop()
    orders = app.topic('orders', partitions=1)
    table = app.Table('last', ttl=10)

    @app.agent(orders)
    async def note(stream):
        async for key, value in stream.items():
            table[key] = value

    async with drive(app) as t:
        await t.send('orders', 1, key='a', timestamp=7)
        await t._append(orders.record('b', 9)._replace(timestamp=ms))
        await t.settle()
        assert len(t.read('orders.dlq')) == 1
        assert dict(table) == {'a': 1}
        await t.restart(wipe_state=True)
        await t.send('orders', 3, key='c', timestamp=17)
        await t.settle()
        assert dict(table) == {'c': 3}
