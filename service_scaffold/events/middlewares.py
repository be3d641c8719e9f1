"""The two middleware chains of an application."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from service_scaffold.message import Middleware


class Middlewares:
    """What `events.use` has collected, in order.

    Attributes:
        consume: Around every delivery, first one outermost.
        publish: Around every message that is published, first one outermost.
        on_change: Called after each `use`, so that what is compiled already is compiled again.
    """

    def __init__(self) -> None:
        self.consume: list[Middleware] = []
        self.publish: list[Middleware] = []
        self.on_change: list[Callable[[], None]] = []


_KEY = web.AppKey('events.middlewares', Middlewares)


def of(app: web.Application) -> Middlewares:
    """Return the application's middlewares."""
    if _KEY not in app:
        app[_KEY] = Middlewares()
    return app[_KEY]


def use(
    app: web.Application,
    *,
    consume: Middleware | None = None,
    publish: Middleware | None = None,
) -> None:
    """Put a middleware around consuming, publishing, or both.

    A middleware is `mw(next) -> async (message) -> result`. The first one given is the outermost.
    It runs once a delivery, outside the retries: `await next(message)` returns what the handler
    returned, or raises what it raised in the end, when the message is already a dead letter.

    Args:
        consume: Around each delivery to a subscription.
        publish: Around each message that is published; `next` returns when it is confirmed, or,
            in `publish_many`, when the message has joined the batch.

    Raises:
        ValueError: Neither is given.
        RuntimeError: The application has started.
    """
    if consume is None and publish is None:
        raise ValueError('events.use needs consume=… or publish=…')
    if app.frozen:
        raise RuntimeError('events.use comes before the application starts')
    middlewares = of(app)
    if consume is not None:
        middlewares.consume.append(consume)
    if publish is not None:
        middlewares.publish.append(publish)
    for changed in middlewares.on_change:
        changed()
