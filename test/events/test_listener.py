"""The listener's health, and what it asks of a broker at the start."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from service_scaffold import errors, events, features, service
from service_scaffold.clock import ManualClock
from service_scaffold.testing import memory_bus, running
from service_scaffold.transports import memory
from test.events.conftest import MakeApp


def furnished(*args: str, clock: ManualClock | None = None) -> web.Application:
    app = service.create_app('plant', raw_args=list(args))
    if clock is not None:
        features.set_clock(app, clock)
    events.setup(app)
    service.furnish(app)
    return app


async def test_unused_all_is_well_and_no_connection_is_made() -> None:
    app = furnished()
    memory_bus(app).down()
    async with running(app) as plant:
        status = await plant.client.get('/plant/_service/status')
        assert (status.status, await status.json()) == (200, {'status': 'ok'})
        assert (await plant.client.get('/_service/ready')).status == 200
        assert plant.bus.broker.network.connections == ()


@pytest.mark.parametrize(('required', 'ready'), [('ready', 503), ('no', 200)])
async def test_ready_is_503_while_the_bus_is_away_unless_it_is_not_required(
    required: str, ready: int
) -> None:
    clock = ManualClock()
    app = furnished(f'--eventbus-required={required}', clock=clock)
    subscription = events.get_listener(app).subscribe('plant', '#')
    async with running(app) as plant:
        assert (await plant.client.get('/_service/ready')).status == 200
        plant.bus.down()
        assert (await plant.client.get('/_service/ready')).status == ready
        assert (await plant.client.get('/_service/live')).status == 200
        status = await (await plant.client.get('/_service/status')).json()
        assert status['status'] == 'degraded'
        assert 'EventListener' in status['features']
        plant.bus.up()
        await clock.advance(15)
        await subscription.wait_active(5)
        assert (await plant.client.get('/_service/ready')).status == 200
        assert await (await plant.client.get('/_service/status')).json() == {'status': 'ok'}


async def test_a_subscription_that_waits_for_the_broker_says_why() -> None:
    app = furnished()
    memory_bus(app).down()
    subscription = events.get_listener(app).subscribe('plant', '#')
    async with running(app, active_s=0):
        with pytest.raises(TimeoutError, match=r'still waiting after .*memory://'):
            await subscription.wait_active(0.1)

    assert isinstance(subscription.last_error, errors.BrokerUnreachable)


async def test_a_failed_subscription_degrades_and_does_not_make_unready() -> None:
    app = furnished()
    async with running(app) as plant:
        await plant.publisher.publish('odd', 'a', 1, 'fanout')
        bad = plant.listener.subscribe('odd', '#')
        with pytest.raises(TimeoutError, match='failed after'):
            await bad.wait_active(0.05)
        assert plant.listener.health().ready
        status = await (await plant.client.get('/_service/status')).json()
        assert 'failed' in str(status['features'])


async def test_required_at_the_start_a_missing_bus_ends_it(make_app: MakeApp) -> None:
    app = make_app('--eventbus-required=start', '--connect-timeout-s=0.2')
    memory_bus(app).down()
    with pytest.raises(errors.BrokerUnreachable, match='--eventbus-required start'):
        await features.get_lifecycle(app).start()


@pytest.mark.parametrize('fault', ['down', 'half_open'])
async def test_a_start_that_a_missing_bus_has_ended_leaves_nothing_running(
    make_app: MakeApp, unique: str, fault: str
) -> None:
    app = make_app('--eventbus-required=start', '--connect-timeout-s=0.1')
    url = f'memory://{unique}'
    getattr(memory.broker(url), fault)()
    async with running(app):
        listener = events.EventListener(app, url)
        before = asyncio.all_tasks()
        with pytest.raises(errors.BrokerUnreachable):
            await listener.startup(app)
        assert asyncio.all_tasks() == before
        assert not listener.running

        memory.broker(url).up()
        await listener.startup(app)
        assert listener.connected
        await listener.shutdown(app)


async def test_required_at_the_start_it_connects_before_anything_is_subscribed(
    make_app: MakeApp,
) -> None:
    app = make_app('--eventbus-required=start')
    async with running(app) as plant:
        assert plant.listener.connected
        plant.bus.down()
        assert not plant.listener.health().ready


@pytest.mark.parametrize(
    ('url', 'said'),
    [
        ('carrier-pigeon://loft', 'carrier-pigeon'),
        ('kafka://joe:secret@localhost?sasl=GSSAPI', r'\?sasl=GSSAPI'),
        ('amqp://joe:secret@localhost?heartbeat=often', "'often'"),
    ],
)
async def test_an_url_that_can_never_work_is_said_at_the_start(
    make_app: MakeApp, url: str, said: str
) -> None:
    app = make_app()
    events.EventListener(app, url).subscribe('plant', '#')
    with pytest.raises(errors.ConfigError, match=said) as failed:
        await features.get_lifecycle(app).start()
    assert 'secret' not in str(failed.value)


async def test_a_certificate_that_is_not_there_yet_is_an_outage(make_app: MakeApp) -> None:
    app = make_app('--eventbus-url=kafka+ssl://127.0.0.1:1', f'--eventbus-ca={__file__}')
    events.setup(app)
    listener = events.get_listener(app)
    listener.subscribe('plant', '#')
    lifecycle = features.get_lifecycle(app)
    await lifecycle.start()
    try:
        assert not listener.health().ready
    finally:
        await lifecycle.before_shutdown()
        await lifecycle.shutdown()


async def test_two_subscriptions_of_one_name_are_counted_as_two(make_app: MakeApp) -> None:
    app = make_app()
    events.setup(app)
    listener = events.get_listener(app)
    listener.subscribe('plant', '#')
    listener.subscribe('plant', '#')
    detail = listener.health().detail
    assert (detail['subscriptions'], detail['active']) == (2, 0)


def test_without_setup_there_is_no_listener() -> None:
    app = service.create_app('plant', raw_args=[])
    with pytest.raises(KeyError):
        events.get_listener(app)
    with pytest.raises(KeyError):
        events.get_publisher(app)


async def test_it_runs_between_start_and_stop(app: web.Application) -> None:
    listener = events.get_listener(app)
    assert not listener.running
    async with running(app):
        assert listener.running
        assert not listener.connected
    assert not listener.running
