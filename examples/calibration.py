"""Asks a tank to calibrate itself, over the bus.

curl -X POST 'localhost:5000/calibration/north?to=4'
curl -X POST 'localhost:5000/calibration/north?to=-1'
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from service_scaffold import events, service


class Order(msgspec.Struct):
    """What to calibrate to."""

    to: float


async def calibrate(subscription: events.EventSubscription, key: str, message: Order) -> object:
    """Answer the request; what it raises goes back to who asked."""
    if message.to < 0:
        raise events.Reject('a tank does not hold less than nothing')
    return {'tank': key, 'calibrated_to': message.to}


async def post_calibration(request: web.Request) -> web.Response:
    """Ask, and wait for the answer."""
    order = Order(to=float(request.query['to']))
    try:
        answer = await events.get_publisher(request).request(
            'calibrations', request.match_info['tank'], order, timeout_s=5
        )
    except events.RemoteError as error:
        raise web.HTTPUnprocessableEntity(text=error.message) from error
    return web.json_response(answer)


def setup(app: web.Application) -> None:
    """Answer requests from the bus, and offer the asking by HTTP."""
    events.setup(app)
    events.get_listener(app).subscribe(
        'calibrations', '*', on_message=calibrate, group='tanks', reply=True
    )
    app.router.add_post('/{tank}', post_calibration)


def main() -> None:
    """Run the service."""
    app = service.create_app('calibration')
    setup(app)
    service.furnish(app)
    service.run(app)


if __name__ == '__main__':
    main()
