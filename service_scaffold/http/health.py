"""Health endpoints: whether the service lives, can take work, and how its features are.

The answers are made from memory, from what the features say of themselves. They are functions of
the lifecycle, so that the gate can give them, too, while the service starts.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from service_scaffold import features, options
from service_scaffold.http import apidoc, problems

PATH = '/_service'

_OK = b'{"status": "ok"}'


def live() -> web.Response:
    """Answer 200: the process runs its loop. No broker and no feature can change that."""
    return web.json_response({'live': True})


def ready(lifecycle: features.Lifecycle) -> web.Response:
    """Answer 200 when work may be sent here, else 503 with what it waits for."""
    if lifecycle.state != 'running':
        return problems.response(503, f'The service is not running: {lifecycle.state}.')
    waiting = _details(lifecycle, lambda health: not health.ready)
    if waiting:
        return problems.response(503, f'Not ready: {", ".join(waiting)}.', features=waiting)
    return web.json_response({'ready': True})


def status(lifecycle: features.Lifecycle) -> web.Response:
    """Answer 200 with `{"status": "ok"}` exactly when all is well, else with what is not."""
    # Probes ask all the time, and nearly always this is the answer.
    if lifecycle.well:
        return web.Response(body=_OK, content_type='application/json')
    troubled = _details(lifecycle, lambda health: not health.ok)
    if lifecycle.state != 'running':
        troubled['service'] = {'state': lifecycle.state}
    return web.json_response({'status': 'degraded', 'features': troubled})


def _details(
    lifecycle: features.Lifecycle, wanted: Callable[[features.Health], bool]
) -> dict[str, object]:
    """Return what those features say: any values as JSON, and none with credentials in it."""
    found = {name: dict(h.detail) for name, h in lifecycle.health().items() if wanted(h)}
    if not found:
        return {}
    text = json.dumps(found, default=str, skipkeys=True)
    shown: dict[str, object] = json.loads(options.mask_text(text), parse_constant=str)
    return shown


def setup(app: web.Application, prefix: str) -> None:
    """Add the health endpoints of `app`, under `prefix` and without it."""
    lifecycle = features.get_lifecycle(app)

    async def get_status(request: web.Request) -> web.Response:
        return status(lifecycle)

    async def get_live(request: web.Request) -> web.Response:
        return live()

    async def get_ready(request: web.Request) -> web.Response:
        return ready(lifecycle)

    add_route(app, prefix, 'status', get_status, summary='Whether all is well')
    add_route(app, prefix, 'live', get_live, summary='Whether the process lives')
    add_route(
        app,
        prefix,
        'ready',
        get_ready,
        summary='Whether work may be sent here',
        responses={'503': {'description': 'Starting, stopping, or a feature is not ready'}},
    )


def add_route(
    app: web.Application, prefix: str, name: str, handler: Handler, **description: object
) -> None:
    """Serve GET `/_service/{name}`, under `prefix` and (not on the API page) without it."""
    app.router.add_get(
        f'{prefix}{PATH}/{name}', apidoc.document(handler, tags=['service'], **description)
    )
    if prefix:
        app.router.add_get(f'{PATH}/{name}', handler)
