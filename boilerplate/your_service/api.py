"""The REST endpoints, under `/{name}`; their documentation is at `/{name}/api/doc`."""

from __future__ import annotations

import msgspec
from aiohttp import web
from marshmallow import Schema, fields
from service_scaffold import events
from service_scaffold.http import apidoc

from your_service.monitor import get_monitor
from your_service.readings import SENSORS, Reading

routes = web.RouteTableDef()


class ReadingSchema(Schema):
    """A `Reading` for the API page, and for the check of what clients send."""

    value = fields.Float(required=True, metadata={'example': 91.5})
    unit = fields.String(metadata={'example': 'C'})
    time = fields.Float(metadata={'description': 'Epoch seconds; default: now'})


class AlertSchema(Schema):
    """An `Alert` for the API page."""

    sensor = fields.String(metadata={'example': 'boiler.temperature'})
    state = fields.String(metadata={'example': 'raised'})
    value = fields.Float()
    limit = fields.Float()
    time = fields.Float(metadata={'description': 'Epoch seconds'})


def setup(app: web.Application) -> None:
    """Add the endpoints to `app`."""
    app.router.add_routes(routes)


@routes.get('/readings')
@apidoc.docs(tags=['Readings'], summary='The latest reading of each sensor')
async def get_latest(request: web.Request) -> web.Response:
    """Return `{sensor: reading}`."""
    monitor = get_monitor(request)
    return _json({sensor: monitor.latest(sensor) for sensor in monitor.readings})


@routes.get('/readings/{sensor}')
@apidoc.docs(tags=['Readings'], summary='The last readings of one sensor, oldest first')
@apidoc.response_schema(ReadingSchema(many=True), 200)
async def get_history(request: web.Request) -> web.Response:
    """Return a list of readings; 404 when the sensor is unknown."""
    sensor = request.match_info['sensor']
    found = get_monitor(request).readings.get(sensor)
    if found is None:
        raise web.HTTPNotFound(text=f'No reading of {sensor} has come yet.')
    return _json(list(found))


@routes.post('/readings/{sensor}')
@apidoc.docs(
    tags=['Readings'],
    summary='Publish a reading, as a sensor would',
    responses={202: {'description': 'The broker has it'}},
)
@apidoc.json_schema(ReadingSchema)
async def post_reading(request: web.Request) -> web.Response:
    """Return 202 when the broker has it; without a broker the answer is 503."""
    reading = Reading(**request['json'])
    try:
        await events.get_publisher(request).publish(SENSORS, request.match_info['sensor'], reading)
    except ValueError as error:  # not a routing key
        raise web.HTTPUnprocessableEntity(text=str(error)) from error
    return web.Response(status=202)


@routes.get('/alerts')
@apidoc.docs(tags=['Alerts'], summary='The last alert of each sensor')
@apidoc.response_schema(AlertSchema(many=True), 200)
async def get_alerts(request: web.Request) -> web.Response:
    """Return a list of alerts, raised and cleared."""
    return _json(list(get_monitor(request).alerts.values()))


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type='application/json')
