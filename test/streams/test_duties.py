"""Timers, tasks, the leader and signals under the offline driver, and what a rename changes."""

from __future__ import annotations

import asyncio
import dataclasses
import time

import click
import pytest

from service_scaffold import errors
from service_scaffold.streams.decision import Decision
from service_scaffold.streams.driver import drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology


@pytest.fixture
def app() -> Topology:
    return Topology(StreamSettings('shop'))


async def test_timers_and_crontabs_tick_at_their_own_time(app):
    seen = []
    clock = None

    @app.timer(60.0)
    async def minutely():
        seen.append(('timer', clock.now))

    @app.crontab('0 1 * * *', timezone='Europe/Berlin')
    def nightly():
        seen.append(('cron', clock.now))

    async with drive(app, start=-3600.0) as t:  # midnight in Berlin
        clock = t
        await t.advance(59)
        assert seen == []
        await t.advance(62)
        assert seen == [('timer', -3540.0), ('timer', -3480.0)]
        seen.clear()
        await t.advance(3600)

    assert ('cron', 0.0) in seen
    assert [at for kind, at in seen if kind == 'timer'] == [60.0 * n for n in range(-57, 3)]


async def test_what_a_timer_sends_is_there_when_time_has_passed(app):
    out = app.topic('out')

    @app.timer(interval=10.0)
    async def tell():
        await app.send('out', 'k', {'n': 1})

    async with drive(app) as t:
        await t.advance(25)
        assert [event.value for event in t.read(out)] == [{'n': 1}, {'n': 1}]


async def test_an_error_of_a_timer_goes_to_its_hook_and_the_timer_goes_on(app):
    failed = []

    @app.timer(1.0, on_error=lambda timer, error: failed.append((timer.name, str(error))))
    async def bad():
        raise ValueError('no')

    async with drive(app) as t:
        await t.advance(2)

    assert failed == [('bad', 'no')] * 2


async def test_a_task_runs_once_when_all_is_ready(app):
    out = app.topic('out', value_type=int)
    ran = []

    @app.task
    async def greet():
        ran.append('greet')
        await out.send(value=1)

    @app.task()
    def plain():
        ran.append('plain')

    async with drive(app) as t:
        await t.settle()
        assert ran == ['greet', 'plain']
        assert [event.value for event in t.read(out)] == [1]
        await t.advance(100)

    assert ran == ['greet', 'plain']


async def test_the_only_worker_is_the_leader(app):
    seen = []

    @app.timer(1.0, on_leader=True)
    async def lead():
        seen.append(app.is_leader())

    counts = app.Table('counts', default=int)
    orders = app.topic('orders', partitions=3)

    @app.agent(orders)
    async def count(stream):
        async for _ in stream:
            counts['n'] += 1

    async with drive(app) as t:
        assert app.is_leader()
        await t.advance(1)
        assert counts.count == 3

    assert seen == [True]
    assert not app.is_leader()


async def test_without_an_election_nobody_can_ask_who_leads(app):
    with pytest.raises(errors.StreamError, match='on_leader=True'):
        app.is_leader()


async def test_a_leader_is_refused_where_there_shall_be_none():
    app = Topology(StreamSettings('shop', may_elect=False))
    app.task(on_leader=True)(lambda: None)

    with pytest.raises(errors.ConfigError, match='topic-disable-leader'):
        async with drive(app):
            pass


async def test_signals_are_told_of_the_life(app):
    seen = []

    @app.on_worker_init.connect
    def begin(sender):
        seen.append(('init', sender is app))

    @app.on_before_shutdown.connect()
    async def end(sender, **named):
        seen.append(('end', named))

    async with drive(app):
        assert seen == [('init', True)]

    assert seen == [('init', True), ('end', {})]


def test_what_is_wrong_is_found_at_the_declaration(app):
    with pytest.raises(TypeError, match='interval'):
        app.timer(60.0, interval=60.0)
    with pytest.raises(ValueError, match='hour'):
        app.crontab('0 25 * * *')
    with pytest.raises(ValueError, match='Mars'):
        app.crontab('0 1 * * *', timezone='Mars')
    with pytest.raises(TypeError, match='function'):
        app.task(3)
    with pytest.raises(TypeError, match='click'):
        app.command('name')(print)


def test_commands_are_kept_with_their_options(app):
    option = click.option('--count', default=1)

    @app.command(option, help='Say so')
    async def say_hello(count):
        """Not this."""

    command = app.commands['say-hello']
    assert (command.function, command.options, command.help) == (say_hello, (option,), 'Say so')
    with pytest.raises(ValueError, match='say-hello'):
        app.command()(say_hello)


async def test_another_id_renames_what_is_named_after_it(app):
    counts = app.Table('counts', default=int)

    @app.agent()
    async def private(stream):
        async for n in stream:
            counts['n'] += n

    app.configure(dataclasses.replace(app.settings, id='store'))

    async with drive(app) as t:
        await t.send(private.topic, 3, key='k')
        await t.settle()
        assert counts['n'] == 3
        assert [event.value for event in t.read('store-private')] == [3]
        assert t.read('store-counts-changelog')


def test_a_weaker_guarantee_must_still_hold_for_the_topics(app):
    app.topic('orders', delivery_guarantee='at_least_once')

    with pytest.raises(errors.ConfigError, match='orders'):
        app.configure(dataclasses.replace(app.settings, guarantee='at_most_once'))


def test_the_default_zone_of_crontabs_follows_the_settings(app):
    app.crontab('0 1 * * *')(lambda: None)
    (cron,) = app.schedules.values()

    app.configure(dataclasses.replace(app.settings, timezone='Europe/Berlin'))

    assert str(cron.crontab.timezone) == 'Europe/Berlin'


async def test_the_loop_is_a_property_and_a_method(app):
    assert app.loop().is_running()
    assert app.loop.is_running()


async def test_signals_tell_of_partitions(app):
    seen = []
    complete = asyncio.Event()
    orders = app.topic('orders', partitions=2)

    @app.agent(orders)
    async def work(orders):
        async for _ in orders:
            pass

    @app.on_partitions_assigned.connect
    async def came(sender, partitions):
        seen.append(('came', {number for _, number in partitions}))

    @app.on_rebalance_complete.connect
    def done(sender):
        complete.set()

    @app.on_partitions_revoked.connect
    def broken(sender, partitions):
        raise ValueError('this is logged')

    async with drive(app):
        await asyncio.wait_for(complete.wait(), 5)

    assert seen == [('came', {0, 1})]


async def test_a_signal_sees_what_is_sent_and_may_add_headers(app):
    seen = []
    orders = app.topic('orders', partitions=1)
    out = app.topic('out')

    @app.agent(orders)
    async def work(stream):
        async for event in stream.events():
            await event.forward(out)

    @app.on_produce_message.connect
    def trace(sender, key, value, headers):
        seen.append((key, value))
        headers['trace'] = 'x'

    async with drive(app) as t:
        await orders.send(key='k', value=1, headers={'a': 'b'})
        await t.settle()
        (event,) = t.read(out)

    assert event.headers == {'a': b'b', 'trace': b'x'}
    assert seen == [(b'k', b'1')] * 2


async def test_outputs_may_wait_for_the_checkpoint():
    app = Topology(StreamSettings('shop', publish_on_commit=True, checkpoint_s=100.0))
    orders = app.topic('orders', partitions=1)
    handled = asyncio.Event()

    @app.agent(orders, sink=[app.topic('out')])
    async def work(orders):
        async for order in orders:
            yield order
            handled.set()

    async with drive(app) as t:
        await t.send(orders, 1)
        await asyncio.wait_for(handled.wait(), 5)
        assert t.read('out') == []
        await t.settle()
        assert [event.value for event in t.read('out')] == [1]


async def test_a_checkpoint_comes_early_after_so_many_records():
    app = Topology(StreamSettings('shop', checkpoint_every=3, checkpoint_s=1000.0))
    orders = app.topic('orders', partitions=1)
    counts = app.Table('counts', default=int)

    @app.agent(orders)
    async def work(orders):
        async for _ in orders:
            counts['n'] += 1

    async with drive(app) as t:
        await t.settle()
        for _ in range(4):
            await t.send(orders, 1)
        async with asyncio.timeout(5):
            while not t.read('shop-counts-changelog'):  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0)


async def test_recovery_may_wait():
    app = Topology(StreamSettings('shop', recovery_delay_s=5.0))
    orders = app.topic('orders', partitions=1)
    counts = app.Table('counts', default=int)

    @app.agent(orders)
    async def work(orders):
        async for _ in orders:
            counts['n'] += 1

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), drive(app):
            pass


async def test_a_pause_before_another_attempt_does_not_hold_up_the_end(app):
    tried = asyncio.Event()
    orders = app.topic('orders', partitions=1)

    @app.agent(orders, on_error=lambda agent, error: Decision.RETRY)
    async def work(orders):
        async for _ in orders:
            tried.set()
            raise ValueError('not yet')

    async with drive(app) as t:
        await t.send(orders, 1)
        await asyncio.wait_for(tried.wait(), 5)
        begun = time.monotonic()

    assert time.monotonic() - begun < 3
