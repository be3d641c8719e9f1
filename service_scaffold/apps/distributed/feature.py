"""The feature that runs the functions of an application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from aiohttp import web

from service_scaffold import errors, events, features, options, scheduler, transports
from service_scaffold.apps.distributed.functions import Consumer, Function, Producer, Surroundings
from service_scaffold.apps.distributed.ledger import Ledger
from service_scaffold.apps.distributed.message import MessageBuilder
from service_scaffold.events.settings import transport_settings

LOGGER = logging.getLogger(__name__)

LOOK_S = 0.02
WAIT_S = 5.0


class Functions(features.ServiceFeature):
    """Begins the consumers, then the producers, and ends them in order; one failing stays alone.

    Args:
        app: The service.
        owner: What functions get as `app`.
        on_done: Called when all producers have ended and what was sent is handled, if that is
            wanted.
    """

    def __init__(
        self, app: web.Application, owner: object, on_done: Callable[[], None] | None = None
    ) -> None:
        super().__init__(app)
        self.functions: dict[str, Function] = {}
        self.on_done = on_done
        self._owner = owner
        self._watch: asyncio.Task[None] | None = None
        self._ledger: Ledger | None = None

    @property
    def consumers(self) -> list[Consumer]:
        """Those that receive."""
        return [f for f in self.functions.values() if isinstance(f, Consumer)]

    @property
    def producers(self) -> list[Producer]:
        """Those that are called once."""
        return [f for f in self.functions.values() if isinstance(f, Producer)]

    def add(self, function: Function) -> None:
        """Take a function.

        Raises:
            RuntimeError: The application runs.
            ValueError: There is another one of its name.
        """
        if features.get_lifecycle(self.app).state not in ('created', 'stopped'):
            raise RuntimeError(
                f'{function.name!r} comes too late: functions are declared before the start;'
                ' socket.subscribe(topics, callback) works at any time'
            )
        if function.name in self.functions:
            raise ValueError(
                f'there is a function {function.name!r} already; give one of them another name='
            )
        self.functions[function.name] = function

    def follow(self) -> None:
        """Keep account of what is published, so that `on_done` is told; before the first start."""
        if self._ledger is None:
            self._ledger = Ledger(events.get_listener(self.app), lambda: self.consumers)
            events.use(self.app, consume=self._ledger.consume, publish=self._ledger.publish)

    async def startup(self, app: web.Application) -> None:
        """Begin; does not wait for the broker.

        Raises:
            ConfigError: The package of the transport is not installed.
        """
        with contextlib.suppress(errors.TransportError):  # what may pass is for the connection
            transports.open_transport(transport_settings(app, 'listener'))
        config = options.get_config(app)
        content_type = config.get('content_type')
        around = Surroundings(
            app=app,
            owner=self._owner,
            name=config['name'],
            builder=MessageBuilder(config['name'], config['instance'], content_type),
            content_type=content_type,
        )
        if self._ledger is not None:
            self._ledger.begin()
        for function in self.functions.values():
            function.begin(around)
        spawn = scheduler.get_scheduler(app).spawn
        self._watch = spawn(self._lead(app), name=f'{around.name} functions')

    async def _lead(self, app: web.Application) -> None:
        """Let producers begin when they are heard, and say when all is done."""
        if self.producers and options.get_config(app)['eventbus_required'] != 'no':
            await self._connected(app)
            await self.heard()
        for producer in self.producers:
            producer.let_begin()
        if self.on_done is None:
            return
        for producer in self.producers:
            await producer.ended()
        if self._ledger is not None:
            await self._ledger.settled()
        LOGGER.info('All producers have ended, and what they have sent is handled')
        self.on_done()

    async def _connected(self, app: web.Application) -> None:
        while True:
            try:
                await events.get_publisher(app).wait_connected(WAIT_S)
                return
            except TimeoutError as error:
                LOGGER.info('Producers wait: %s', error)

    async def heard(self) -> None:
        """Wait until every consumer is subscribed, or cannot be.

        One that waits for a resource is waited for where the application shall end when it is done:
        what it has not heard would count as handled.
        """
        while not all(
            consumer.settled or (consumer.held_up and self.on_done is None)
            for consumer in self.consumers
        ):
            await features.get_clock(self.app).sleep(LOOK_S)

    async def drain(self, app: web.Application) -> None:
        """End the producers; the listener, which drains next, the consumers."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})
        await asyncio.gather(*(function.drain() for function in self.functions.values()))

    async def before_shutdown(self, app: web.Application) -> None:
        """Leave the resources of the consumers: their last message has been handled."""
        await asyncio.gather(*(function.leave() for function in self.functions.values()))

    async def shutdown(self, app: web.Application) -> None:
        """Let the status tell whether something has failed."""
        lifecycle = features.get_lifecycle(app)
        failed = [f.error for f in self.functions.values() if f.state == 'failed' and f.error]
        if failed and lifecycle.failure is None:
            lifecycle.failure = failed[0]

    def health(self) -> features.Health:
        """Report each function."""
        functions = self.functions.values()
        return features.Health(
            ok=not any(f.state in ('waiting', 'failed') or f.error is not None for f in functions),
            ready=not any(c.state == 'waiting' for c in self.consumers),
            detail={
                f.name: f.state if f.error is None else f'{f.state}: {f.error}' for f in functions
            },
        )
