"""Hands a request id from HTTP through the bus, by two middlewares.

curl -X POST localhost:5000/tracing/orders -H 'X-Request-Id: abc'
curl localhost:5000/tracing/seen
"""

from __future__ import annotations

from contextvars import ContextVar

from aiohttp import web

from service_scaffold import events, service

SEEN = web.AppKey('seen', list)
REQUEST_ID: ContextVar[str] = ContextVar('request_id', default='-')


def stamp(next: events.Handler) -> events.Handler:
    """Put the request id of the moment on what is published."""

    async def publish(message: events.Message) -> object:
        headers = {**message.headers, 'request-id': REQUEST_ID.get()}
        return await next(message.replace(headers=headers))

    return publish


def read(next: events.Handler) -> events.Handler:
    """Take the request id from what is consumed, for the handler and what it publishes."""

    async def consume(message: events.Message) -> object:
        REQUEST_ID.set(message.headers.get('request-id', '-'))
        return await next(message)

    return consume


def setup(app: web.Application) -> None:
    """Pass orders on to shipping, request id and all."""
    events.setup(app)
    events.use(app, consume=read, publish=stamp)
    app[SEEN] = []

    async def on_order(subscription: events.EventSubscription, key: str, message: dict) -> None:
        await events.get_publisher(app).publish('shipping', key, message)

    async def on_shipping(subscription: events.EventSubscription, key: str, message: dict) -> None:
        app[SEEN].append({'request_id': REQUEST_ID.get(), **message})

    listener = events.get_listener(app)
    listener.subscribe('orders', '#', on_message=on_order, group='shop')
    listener.subscribe('shipping', '#', on_message=on_shipping, group='shop')
    app.router.add_post('/orders', post_order)
    app.router.add_get('/seen', get_seen)


async def post_order(request: web.Request) -> web.Response:
    """Take an order."""
    REQUEST_ID.set(request.headers.get('X-Request-Id', '-'))
    await events.get_publisher(request).publish('orders', 'new', {'item': 'tea'})
    return web.json_response({})


async def get_seen(request: web.Request) -> web.Response:
    """Return what arrived at the end of the line."""
    return web.json_response(request.app[SEEN])


def main() -> None:
    """Run the service."""
    app = service.create_app('tracing')
    setup(app)
    service.furnish(app)
    service.run(app)


if __name__ == '__main__':
    main()
