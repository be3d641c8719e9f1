"""Several instances of one service in a test."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AbstractAsyncContextManager
from typing import Any

from aiohttp import web

from service_scaffold import events, service
from service_scaffold.events.subscription import OnMessage
from service_scaffold.testing.conformance.inbox import WAIT_S
from service_scaffold.testing.harness import Running, running

PUBLISH_TIMEOUT_S = 3.0


class Instance:
    """One started instance of the service.

    Attributes:
        running: Its application, client, listener and publisher.
    """

    def __init__(
        self, name: str, started: Running, context: AbstractAsyncContextManager[Running]
    ) -> None:
        self.name = name
        self.running = started
        self._context = context
        self._stopped = False

    @property
    def app(self) -> web.Application:
        """The application."""
        return self.running.app

    @property
    def listener(self) -> events.EventListener:
        """Its listener."""
        return self.running.listener

    @property
    def publisher(self) -> events.EventPublisher:
        """Its publisher."""
        return self.running.publisher

    async def subscribe(
        self, exchange: str, routing: str, on_message: OnMessage, **options: Any
    ) -> events.EventSubscription:
        """Subscribe, and wait until the subscription is active."""
        subscription = self.listener.subscribe(exchange, routing, on_message=on_message, **options)
        await subscription.wait_active(WAIT_S)
        return subscription

    async def publish(self, exchange: str, routing: str, message: object, **options: Any) -> None:
        """Publish one event."""
        await self.publisher.publish(exchange, routing, message, **options)

    async def stop(self) -> None:
        """Stop the application as SIGTERM does. Idempotent."""
        if not self._stopped:
            self._stopped = True
            await self._context.__aexit__(None, None, None)


class Instances:
    """Makes and starts instances of one service, and stops all that still run at the end.

    Args:
        url: The event bus.
        name: The service's name.
    """

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._numbers = itertools.count(1)
        self._started: list[Instance] = []

    def make(self, name: str | None = None, **options: object) -> web.Application:
        """Return an application that has events and was not started.

        Args:
            name: Its `--instance`; default is one that no other has.
            options: Further options of the service, with underscores.
        """
        given: dict[str, object] = {
            'eventbus_url': self._url,
            'instance': name or f'i{next(self._numbers)}',
            'publish_timeout_s': PUBLISH_TIMEOUT_S,
            'connect_timeout_s': 5,
            'shutdown_timeout_s': 5,
            'log_level': 'DEBUG',
            **options,
        }
        arguments = [f'--{key.replace("_", "-")}={value}' for key, value in given.items()]
        app = service.create_app(self._name, raw_args=arguments)
        events.setup(app)
        return app

    async def start(
        self, name: str | None = None, *, app: web.Application | None = None, **options: object
    ) -> Instance:
        """Start an instance, made now unless `app` is given; does not wait for the broker."""
        made = self.make(name, **options) if app is None else app
        context = running(made, active_s=0)
        instance = Instance(str(made['config']['instance']), await context.__aenter__(), context)
        self._started.append(instance)
        return instance

    async def stop(self) -> None:
        """Stop all that still run, at once."""
        await asyncio.gather(*(instance.stop() for instance in self._started))
