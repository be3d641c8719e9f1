"""Publishing and subscribing by HTTP, for debugging: only with `--debug`."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from aiohttp import web

from service_scaffold import errors, features
from service_scaffold.events.listener import EventListener
from service_scaffold.events.publisher import EventPublisher

LOGGER = logging.getLogger(__name__)


class _Published(msgspec.Struct, forbid_unknown_fields=True):
    exchange: str
    routing: str
    message: Any = None


class _Subscribed(msgspec.Struct, forbid_unknown_fields=True):
    exchange: str
    routing: str


def add_routes(app: web.Application) -> None:
    """Add `POST /_debug/publish` and `POST /_debug/subscribe`."""
    app.router.add_post('/_debug/publish', post_publish)
    app.router.add_post('/_debug/subscribe', post_subscribe)


async def post_publish(request: web.Request) -> web.Response:
    """Publish `{"exchange": …, "routing": …, "message": …}`."""
    body = await _body(request, _Published)
    publisher = features.get(request, EventPublisher)
    try:
        await publisher.publish(body.exchange, body.routing, body.message)
    except ValueError as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from error
    except errors.PublishError as error:
        raise web.HTTPBadGateway(text=str(error)) from error
    return web.json_response({})


async def post_subscribe(request: web.Request) -> web.Response:
    """Subscribe to `{"exchange": …, "routing": …}`, and log what comes."""
    body = await _body(request, _Subscribed)
    try:
        features.get(request, EventListener).subscribe(body.exchange, body.routing)
    except ValueError as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from error
    return web.json_response({})


async def _body(request: web.Request, shape: type[Any]) -> Any:
    try:
        return msgspec.json.decode(await request.read(), type=shape)
    except msgspec.ValidationError as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from error
    except msgspec.DecodeError as error:
        raise web.HTTPBadRequest(text=f'Not valid JSON: {error}') from error
