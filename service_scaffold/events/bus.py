"""What listener and publisher share: one connection to an event bus, and what is known of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aiohttp import web

from service_scaffold import features, options, scheduler, transports
from service_scaffold.events.connection import Connection
from service_scaffold.events.settings import transport_settings
from service_scaffold.transports.base import Transport


class BusFeature(features.ServiceFeature):
    """A feature with one connection to an event bus.

    Args:
        app: The application.
        role: What the connection is for, for names and logs.
        url: Another event bus than `--eventbus-url`.
    """

    _connection: Connection

    def __init__(self, app: web.Application, role: str, url: str | None) -> None:
        super().__init__(app)
        self._settings = transport_settings(app, role, url)
        self._address = str(self._settings.address)
        self._required: str = options.get_config(app)['eventbus_required']
        self._clock = features.get_clock(app)
        self._running = False

    def _connect(
        self,
        use: Callable[[Transport], Awaitable[None]] | None = None,
        on_failure: Callable[[Exception], None] | None = None,
    ) -> None:
        """Have a new connection, which is made when it is first needed."""
        self._connection = Connection(
            f'{self._settings.name} {self._settings.role}',
            lambda: transports.open_transport(self._settings),
            self._spawn,
            self._clock,
            use,
            on_failure,
        )

    @property
    def running(self) -> bool:
        """Whether it has started and not stopped."""
        return self._running

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the broker now."""
        return self._connection.up

    @property
    def reconnects(self) -> int:
        """How often a lost connection was restored."""
        return self._connection.reconnects

    def _bus_detail(self) -> dict[str, object]:
        """Return what the health says of the connection."""
        detail: dict[str, object] = {
            'eventbus': self._address,
            'connected': self._connection.up,
        }
        if self._connection.error is not None and not self._connection.up:
            detail['error'] = str(self._connection.error)
        return detail

    def _spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        return scheduler.get_scheduler(self.app).spawn(coroutine, name=name)
