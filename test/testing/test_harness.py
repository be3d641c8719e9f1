"""`testing.running` and the bus in a test's hands."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from service_scaffold import errors, events, features, service, testing


@pytest.fixture
def app() -> web.Application:
    app = service.create_app('plant', raw_args=[])
    events.setup(app)
    service.furnish(app)
    return app


async def test_it_starts_waits_until_active_and_stops(app: web.Application) -> None:
    subscription = events.get_listener(app).subscribe('plant', '#')
    async with testing.running(app) as plant:
        assert subscription.active
        assert features.get_lifecycle(app).state == 'running'
        assert (await plant.client.get('/plant/_service/status')).status == 200
        assert plant.publisher is events.get_publisher(app)
    assert features.get_lifecycle(app).state == 'stopped'


async def test_it_stops_though_the_test_fails(app: web.Application) -> None:
    with pytest.raises(ZeroDivisionError):
        async with testing.running(app):
            raise ZeroDivisionError
    assert features.get_lifecycle(app).state == 'stopped'


async def test_what_was_published_is_remembered_and_expected_once(app: web.Application) -> None:
    async with testing.running(app) as plant:
        await plant.publisher.publish('plant', 'a.b', 1)
        await plant.publisher.publish('plant', 'a.c', 2)
        assert [m.routing for m in plant.bus.published('plant', 'a.*')] == ['a.b', 'a.c']
        assert (await plant.bus.expect('plant', 'a.#')).body == b'1'
        assert (await plant.bus.expect('plant', 'a.#')).body == b'2'
        later = asyncio.ensure_future(plant.bus.expect('plant', 'x', timeout_s=2))
        await plant.publisher.publish('plant', 'x', 3)
        assert (await later).body == b'3'
        with pytest.raises(TimeoutError, match='plant/y'):
            await plant.bus.expect('plant', 'y', timeout_s=0.01)


async def test_join_names_what_is_left(app: web.Application) -> None:
    opened = asyncio.Event()

    async def wait(subscription: object, key: str, message: object) -> None:
        await opened.wait()

    events.get_listener(app).subscribe('plant', '#', on_message=wait, group='g')
    async with testing.running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        with pytest.raises(TimeoutError, match='1 in g@plant'):
            await plant.bus.join(timeout_s=0.01)
        opened.set()
        await plant.bus.join()


async def test_each_application_has_a_bus_of_its_own() -> None:
    first, second = (service.create_app('plant', raw_args=[]) for _ in range(2))
    assert testing.memory_bus(first) is testing.memory_bus(first)
    assert testing.memory_bus(first) is not testing.memory_bus(second)


def test_another_event_bus_is_an_error() -> None:
    app = service.create_app('plant', raw_args=['--eventbus-url=amqp://localhost'])
    with pytest.raises(errors.ConfigError, match='memory://'):
        testing.memory_bus(app)


async def test_a_subscription_that_never_gets_active_is_named(app: web.Application) -> None:
    events.get_listener(app).subscribe('plant', 'a')
    testing.memory_bus(app).down()
    with pytest.raises(TimeoutError, match='live view plant/a'):
        async with testing.running(app, active_s=0.05):
            pass
    assert features.get_lifecycle(app).state == 'stopped'


async def test_without_events_it_is_a_web_application_like_any_other() -> None:
    async with testing.running(service.create_app('plant', raw_args=[])) as plant:
        assert (await plant.client.get('/')).status == 404
