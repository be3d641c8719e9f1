"""Publishes the weather every second, and shows the latest.

curl localhost:5000/weather/latest       API page: http://localhost:5000/weather/api/doc
"""

from __future__ import annotations

import random

from aiohttp import web

from service_scaffold import events, features, repeater, service
from service_scaffold.http import apidoc


class Station(repeater.RepeaterFeature):
    """Measures, publishes, and waits."""

    latest: float | None = None

    async def prepare(self) -> None:
        """Read how often to measure."""
        self.interval_s: float = self.app['config']['interval_s']

    async def run(self) -> None:
        """Measure once."""
        celsius = self.latest = round(random.uniform(-10, 30), 1)
        await events.get_publisher(self.app).publish('weather', 'station', {'celsius': celsius})
        await self.clock.sleep(self.interval_s)


@apidoc.docs(tags=['weather'], summary='The latest temperature')
async def get_latest(request: web.Request) -> web.Response:
    """Return what was measured last."""
    return web.json_response({'celsius': features.get(request, Station).latest})


def main() -> None:
    """Run the service."""
    parser = service.create_parser('weather')
    parser.add_argument(
        '--interval-s', type=float, default=1, help='seconds between readings [%(default)s]'
    )
    app = service.create_app(parser=parser)
    events.setup(app)
    features.add(app, Station(app))
    app.router.add_get('/latest', get_latest)
    service.furnish(app)
    service.run(app)


if __name__ == '__main__':
    main()
