"""The two middleware chains of an application."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from aiohttp import web

from service_scaffold.message import Handler, Message, Middleware, compose


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


class PublishChain:
    """The publish middlewares around one publisher's sending, composed when it starts.

    How a message is sent (its time limit, alone or in a batch) differs from call to call, so that
    travels beside the message, in the context of the call.

    Args:
        middlewares: Whose publish middlewares.
        send: How a message is sent that leaves the chain in another context than that of its
            call: a middleware may have handed it to a task of its own.
    """

    def __init__(self, middlewares: Middlewares, send: Handler) -> None:
        self._middlewares = middlewares
        self._send = send
        self._chain: Handler | None = None
        middlewares.on_change.append(self._refresh)

    def __bool__(self) -> bool:
        """Tell whether there is anything to go through."""
        return bool(self._middlewares.publish)

    def compile(self) -> None:
        """Take over the middlewares as they are now."""
        self._chain = compose(self._middlewares.publish, self._leave)

    async def run(self, message: Message, send: Handler) -> None:
        """Take a message through the middlewares; what comes out is sent by `send`."""
        assert self._chain is not None, 'compiled at the start'
        token = _SENDING.set((self, send))
        try:
            await self._chain(message)
        finally:
            _SENDING.reset(token)

    async def _leave(self, message: Message) -> object:
        chain, send = _SENDING.get((None, self._send))
        return await (send if chain is self else self._send)(message)

    def _refresh(self) -> None:
        if self._chain is not None:
            self.compile()


_SENDING: ContextVar[tuple[PublishChain | None, Handler]] = ContextVar('sending')


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
