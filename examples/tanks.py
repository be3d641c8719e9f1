"""Raises an alarm when a tank runs low.

curl -X POST localhost:5000/tanks/levels/north -d '{"litres": 3}'
curl localhost:5000/tanks/alarms
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from service_scaffold import events, service

ALARMS = web.AppKey('alarms', list)
LOW = 10


class Level(msgspec.Struct):
    """What a tank holds."""

    litres: float


def setup(app: web.Application) -> None:
    """Watch the levels, and keep the alarms that this instance has seen."""
    events.setup(app)
    app[ALARMS] = []

    async def on_level(subscription: events.EventSubscription, key: str, message: Level) -> None:
        if message.litres < LOW:
            await events.get_publisher(app).publish('alarms', key, {'litres': message.litres})

    async def on_alarm(subscription: events.EventSubscription, key: str, message: Level) -> None:
        app[ALARMS].append({'tank': key, 'litres': message.litres})

    listener = events.get_listener(app)
    listener.subscribe('plant', '*', on_message=on_level, group='alarm')
    listener.subscribe('alarms', '#', on_message=on_alarm)
    app.router.add_post('/levels/{tank}', post_level)
    app.router.add_get('/alarms', get_alarms)


async def post_level(request: web.Request) -> web.Response:
    """Publish a level, as a sensor would."""
    level = msgspec.json.decode(await request.read(), type=Level)
    await events.get_publisher(request).publish('plant', request.match_info['tank'], level)
    return web.json_response({})


async def get_alarms(request: web.Request) -> web.Response:
    """Return the alarms."""
    return web.json_response(request.app[ALARMS])


def main() -> None:
    """Run the service."""
    app = service.create_app('tanks')
    setup(app)
    service.furnish(app)
    service.run(app)


if __name__ == '__main__':
    main()
