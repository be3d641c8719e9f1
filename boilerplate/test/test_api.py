"""The REST endpoints, as a client sees them."""

from __future__ import annotations

from conftest import Client, Until
from service_scaffold import events

from your_service.monitor import Monitor
from your_service.readings import SENSORS


async def test_the_service_is_well(
    client: Client, publisher: events.EventPublisher, sensor: str
) -> None:
    # What a shared broker has kept for us may be the first thing to publish alerts about, and the
    # service is not well while the publisher connects: so it is connected before we ask.
    await publisher.publish(SENSORS, sensor, {'value': 21.5})

    response = await client.get('/_service/status')

    assert response.status == 200
    assert await response.json() == {'status': 'ok'}


async def test_what_is_posted_can_be_read(
    client: Client, monitor: Monitor, until: Until, sensor: str
) -> None:
    path = f'/your_service/readings/{sensor}'
    for value in (21.5, 22):
        posted = await client.post(path, json={'value': value, 'unit': 'C'})
        assert posted.status == 202
    await until(lambda: len(monitor.readings.get(sensor, ())) == 2)

    history = await (await client.get(path)).json()
    latest = await (await client.get('/your_service/readings')).json()

    assert [(reading['value'], reading['unit']) for reading in history] == [(21.5, 'C'), (22, 'C')]
    assert latest[sensor] == history[-1]


async def test_an_alert_can_be_read(
    client: Client, monitor: Monitor, until: Until, sensor: str
) -> None:
    await client.post(f'/your_service/readings/{sensor}', json={'value': 91.5})
    await until(lambda: sensor in monitor.alerts)

    found = await (await client.get('/your_service/alerts')).json()

    (alert,) = [alert for alert in found if alert['sensor'] == sensor]
    assert (alert['state'], alert['value'], alert['limit']) == ('raised', 91.5, 80)


async def test_an_unknown_sensor_is_not_found(client: Client, sensor: str) -> None:
    response = await client.get(f'/your_service/readings/{sensor}')

    assert response.status == 404
    assert sensor in (await response.json())['detail']


async def test_a_wrong_reading_is_refused_by_field(client: Client, sensor: str) -> None:
    response = await client.post(f'/your_service/readings/{sensor}', json={'value': 'hot'})

    assert response.status == 422
    assert 'value' in (await response.json())['errors']['json']


async def test_a_sensor_that_is_no_routing_key_is_refused(client: Client) -> None:
    response = await client.post('/your_service/readings/boiler.*', json={'value': 1})

    assert response.status == 422


async def test_every_endpoint_is_on_the_api_page(client: Client) -> None:
    document = await (await client.get('/your_service/api/doc/swagger.json')).json()

    paths = {path for path in document['paths'] if '_service/' not in path.split('/', 2)[2]}
    assert paths == {
        '/your_service/readings',
        '/your_service/readings/{sensor}',
        '/your_service/alerts',
    }
