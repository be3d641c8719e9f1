"""What listener and publisher share: one connection to an event bus, and what is known of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aiohttp import web

from service_scaffold import errors, features, options, scheduler, transports
from service_scaffold.events.connection import Connection
from service_scaffold.events.settings import transport_settings
from service_scaffold.transports.base import Transport

RETRY_S = 0.5


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
        self._role = role
        self._url = url
        self._configure()
        self._clock = features.get_clock(app)
        self._running = False

    def _configure(self) -> None:
        """Take the options as they are now; a ready-made app may read them again."""
        self._settings = transport_settings(self.app, self._role, self._url)
        self._address = str(self._settings.address)
        self._required: str = options.get_config(self.app)['eventbus_required']

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

    async def wait_connected(self, timeout_s: float = 10.0) -> None:
        """Wait until there is a connection to the broker, made now if there is none.

        Raises:
            TimeoutError: There was none within `timeout_s` seconds; the message says why.
            RuntimeError: It has not started, or has stopped.
        """
        if not self._running:
            raise RuntimeError(f'{self!r} is not running')
        error: Exception | None = None
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        await self._connection.obtain()
                    except errors.TransportError as failure:
                        error = failure
                        await self._clock.sleep(RETRY_S)
                    else:
                        return
        except TimeoutError:
            reason = f': {error}' if error else ''
            raise TimeoutError(
                f'{self!r} is not connected after {timeout_s:g} s{reason}'
            ) from error

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
