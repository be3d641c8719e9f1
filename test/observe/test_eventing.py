"""What listener and publisher count is what a scrape shows."""

import asyncio
import re

import pytest

from service_scaffold import events, service, testing


@pytest.fixture
def app():
    app = service.create_app('plant', raw_args=['--log-level', 'critical'])
    events.setup(app)
    return app


async def scraped(started):
    answer = await started.client.get('/_service/metrics')
    samples = re.findall(r'^(event\w+?(?:\{.*\})?) (\S+)$', await answer.text(), re.MULTILINE)
    return {name: float(number) for name, number in samples}


async def test_consumed_failed_retried_and_dead_lettered_are_counted(app):
    async def on_message(subscription, key, message: int):
        if message == 2:
            raise ValueError('not two')

    policy = events.Policy(retry=events.Retry(attempts=3, base_s=0))
    events.get_listener(app).subscribe('a', '#', on_message=on_message, group='g', policy=policy)
    service.furnish(app)
    async with testing.running(app) as started:
        for number in (1, 2):
            await started.publisher.publish('a', 'b', number)
        await started.publisher.publish('a', 'b', 'not a number')
        await started.bus.join()

        found = await scraped(started)

    labels = '{exchange="a",group="g",routing="#"}'
    assert found[f'events_consumed_total{labels}'] == 3
    assert found[f'events_failed_total{labels}'] == 3
    assert found[f'events_retried_total{labels}'] == 2
    assert found[f'events_dead_lettered_total{labels}'] == 2
    assert found[f'events_in_flight{labels}'] == 0
    assert found[f'events_handler_duration_seconds_count{labels}'] == 3
    assert found['events_published_total{exchange="a"}'] == 3
    assert found['eventbus_connected{role="listener"}'] == 1


async def test_a_restored_connection_is_counted(app):
    service.furnish(app)
    async with testing.running(app) as started:
        await started.publisher.publish('a', 'b', 1)
        started.bus.drop_connections()
        await started.publisher.publish('a', 'b', 2)

        found = await scraped(started)

    assert found['eventbus_reconnects_total{role="publisher"}'] == 1


async def test_a_publish_that_is_refused_is_counted(app):
    service.furnish(app)
    async with testing.running(app) as started:
        started.bus.fail_next_publish()
        with pytest.raises(events.PublishError):
            await started.publisher.publish('a', 'b', 1)

        found = await scraped(started)

    assert found['events_publish_failed_total{exchange="a"}'] == 1


async def test_lag_is_what_waits_in_the_queue(app):
    gate = asyncio.Event()
    begun = asyncio.Event()

    async def on_message(subscription, key, message):
        begun.set()
        await gate.wait()

    policy = events.Policy(prefetch=1)
    events.get_listener(app).subscribe('a', '#', on_message=on_message, group='g', policy=policy)
    service.furnish(app)
    async with testing.running(app) as started:
        for number in range(5):
            await started.publisher.publish('a', 'b', number)
        await begun.wait()

        found = await scraped(started)
        gate.set()
        await started.bus.join()

    assert found['events_lag{exchange="a",group="g"}'] == 4


async def test_several_listeners_and_publishers_are_one_series(app):
    """Prometheus refuses a scrape that has a series twice."""
    second, more = events.EventPublisher(app), events.EventListener(app)
    for listener in (events.get_listener(app), more):
        listener.subscribe('a', '#', group='g')
    service.furnish(app)
    async with testing.running(app) as started:
        await started.publisher.publish('a', 'b', 1)
        await second.publish('a', 'b', 2)
        text = await (await started.client.get('/_service/metrics')).text()

    samples = [line.rpartition(' ')[0] for line in text.splitlines() if not line.startswith('#')]
    assert len(samples) == len(set(samples))
    assert 'events_published_total{exchange="a"} 2.0' in text
