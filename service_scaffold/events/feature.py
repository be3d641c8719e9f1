"""The usual pair of an application: one listener, one publisher."""

from __future__ import annotations

from aiohttp import web

from service_scaffold import features, options, scheduler
from service_scaffold.events import routes
from service_scaffold.events.listener import EventListener
from service_scaffold.events.publisher import EventPublisher


def setup(app: web.Application) -> None:
    """Give `app` an `EventListener` and an `EventPublisher`, and the scheduler, if it has none.

    Takes no socket before the first subscription or publish.
    """
    if features.has(app, EventListener):
        return
    scheduler.setup(app)
    # The listener stops first: what its handlers publish while they finish needs the publisher.
    features.add(app, EventPublisher(app))
    features.add(app, EventListener(app))
    if options.get_config(app)['debug']:
        routes.add_routes(app)


def get_listener(app: web.Application | web.Request) -> EventListener:
    """Return the application's listener.

    Raises:
        UnknownFeature: (a KeyError) `events.setup(app)` was not called.
    """
    return features.get(app, EventListener)


def get_publisher(app: web.Application | web.Request) -> EventPublisher:
    """Return the application's publisher.

    Raises:
        UnknownFeature: (a KeyError) `events.setup(app)` was not called.
    """
    return features.get(app, EventPublisher)
