"""Readings come in, alerts go out, queries are answered."""

from __future__ import annotations

import pytest
from conftest import Follow, Until
from msgspec import json
from service_scaffold import events

from your_service.monitor import Monitor
from your_service.readings import ALERTS, QUERIES, SENSORS, Alert


async def test_a_reading_is_kept_under_its_routing_key(
    publisher: events.EventPublisher, monitor: Monitor, until: Until, sensor: str
) -> None:
    await publisher.publish(SENSORS, sensor, {'value': 21.5, 'unit': 'C', 'time': 1.7e9})
    await until(lambda: sensor in monitor.readings)

    found = monitor.latest(sensor)
    assert found is not None
    assert (found.value, found.unit, found.time) == (21.5, 'C', 1.7e9)


async def test_the_history_keeps_the_last_readings(
    publisher: events.EventPublisher, monitor: Monitor, until: Until, sensor: str
) -> None:
    await publisher.publish_many(SENSORS, [(sensor, {'value': value}) for value in range(5)])
    await until(lambda: (found := monitor.latest(sensor)) and found.value == 4)

    assert [reading.value for reading in monitor.readings[sensor]] == [2, 3, 4]


async def test_an_alert_is_published_when_the_limit_is_passed_and_only_then(
    publisher: events.EventPublisher, follow: Follow, sensor: str
) -> None:
    next_alert = await follow(ALERTS)

    for value in (79, 80, 81, 95, 90, 80, 12, 82):
        await publisher.publish(SENSORS, sensor, {'value': value})

    for state, value in (('raised', 81), ('cleared', 80), ('raised', 82)):
        alert = json.decode(await next_alert(), type=Alert)
        assert (alert.sensor, alert.state, alert.value, alert.limit) == (sensor, state, value, 80)


async def test_an_alert_of_another_instance_is_not_repeated(
    publisher: events.EventPublisher, monitor: Monitor, follow: Follow, until: Until, sensor: str
) -> None:
    next_alert = await follow(ALERTS)
    await publisher.publish(ALERTS, sensor, Alert(sensor, 'raised', value=90, limit=80))
    await until(lambda: sensor in monitor.alerts)

    for value in (91, 20):
        await publisher.publish(SENSORS, sensor, {'value': value})

    values = [json.decode(await next_alert(), type=Alert).value for _ in range(2)]
    assert values == [90, 20]


@pytest.mark.parametrize('body', [b'{"value": "hot"}', b'{"unit": "C"}', b'not JSON'])
async def test_what_is_not_a_reading_is_kept_as_a_dead_letter(
    publisher: events.EventPublisher, monitor: Monitor, follow: Follow, sensor: str, body: bytes
) -> None:
    next_letter = await follow(f'{SENSORS}.dlq')

    await publisher.publish(SENSORS, sensor, body, content_type='application/json')

    assert await next_letter() == body
    assert sensor not in monitor.readings


async def test_a_query_is_answered_with_the_latest_reading(
    publisher: events.EventPublisher, monitor: Monitor, until: Until, sensor: str
) -> None:
    assert await publisher.request(QUERIES, 'latest', {'sensor': sensor}) is None
    await publisher.publish(SENSORS, sensor, {'value': 21.5})
    await until(lambda: sensor in monitor.readings)

    answer = await publisher.request(QUERIES, 'latest', {'sensor': sensor})

    assert answer['value'] == 21.5
