"""A service that watches the machine of `mill.py`, and tells what it has seen.

python examples/watcher.py --eventbus-url mqtt://localhost --port 5001
curl localhost:5001/watcher/seen
curl -X POST localhost:5001/watcher/move?x=3\\&y=4
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from service_scaffold import assets, features, scheduler, service


class Watcher(features.ServiceFeature):
    """Follows one machine."""

    def __init__(self, app: web.Application, machine: str) -> None:
        super().__init__(app)
        self.machine = machine
        self.modes: list[Any] = []
        self.availability: list[Any] = []

    async def startup(self, app: web.Application) -> None:
        await scheduler.create_task(app, self.follow())

    async def shutdown(self, app: web.Application) -> None:
        pass

    async def follow(self) -> None:
        mill = await assets.open(self.app, self.machine, timeout_s=3600)
        self.availability.append(mill.get('avail').value)
        mill.subscribe(lambda one: self.availability.append(one.value), attribute='avail')
        mill.subscribe(lambda one: self.modes.append(one.value), attribute='mode')
        await asyncio.Event().wait()


async def get_seen(request: web.Request) -> web.Response:
    """Tell what was seen."""
    watcher = features.get(request, Watcher)
    return web.json_response({'modes': watcher.modes, 'availability': watcher.availability})


async def post_move(request: web.Request) -> web.Response:
    """Move the machine's table."""
    mill = await assets.open(request.app, features.get(request, Watcher).machine)
    x, y = (float(request.query[name]) for name in 'xy')
    try:
        return web.json_response({'moved': await mill.request('move', x=x, y=y)})
    except assets.AssetUnavailable as error:
        raise web.HTTPServiceUnavailable(text=str(error)) from error


def main() -> None:
    """Run the service."""
    parser = service.create_parser('watcher')
    parser.add_argument('--machine', default='mill-1', help='Which asset to watch [%(default)s]')
    app = service.create_app(parser=parser)
    assets.setup(app)
    features.add(app, Watcher(app, app['config']['machine']))
    app.router.add_get('/seen', get_seen)
    app.router.add_post('/move', post_move)
    service.furnish(app)
    service.run(app)


if __name__ == '__main__':
    main()
