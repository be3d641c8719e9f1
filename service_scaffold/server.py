"""The life of the process: bind, start, serve until told to stop, stop in order, exit status."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import time
from collections.abc import Callable
from typing import cast

from aiohttp import web

from service_scaffold import errors, features, options
from service_scaffold.http import gate
from service_scaffold.http.cors import CORS
from service_scaffold.http.prefix import PREFIX
from service_scaffold.stopping import StopRequest, Tame, Watchdog

LOGGER = logging.getLogger(__name__)

_GRACE_S = 1.0
_LATE_S = 2.0
"""So late may the loop hear of a signal without losing of its time."""


async def serve(
    app: web.Application,
    *,
    listen_http: bool = True,
    any_port: bool = False,
    path: str | None = None,
    signals: bool = True,
    stop: StopRequest | None = None,
    on_started: Callable[[], None] | None = None,
    watchdog: Watchdog | None = None,
) -> int:
    """Run `app` from its start to its end in the running loop, and return the exit status.

    0: started (or told to stop while starting), and everything has stopped as it should. 1: the
    port is taken, a start hook failed, a feature could not go on, a stop hook failed or hung, or
    work was cut short; `Lifecycle.failure` says what kept it from starting or going on.
    Cancelled, it stops in the same order before it raises.

    Args:
        listen_http: Whether to listen at all.
        any_port: When the port is taken, listen on any free one.
        path: Listen on the Unix socket of that path, and on no port.
        signals: Whether SIGTERM and SIGINT end it; without them the process is not ours, and
            not ended either when stopping takes too long.
        stop: Ends it as well; for whoever has a reason of its own to stop.
        on_started: Called when the application serves.
        watchdog: Guards the stop beyond the end of this coroutine; the caller cancels it.
    """
    own = (Watchdog() if signals else Tame()) if watchdog is None else watchdog
    request = StopRequest() if stop is None else stop
    try:
        server = _Server(app, request, own, on_started)
        with request.on_signals(server.guard) if signals else contextlib.nullcontext():
            return await server.run(listen_http, any_port, path)
    finally:
        if watchdog is None:
            own.cancel()


class _Server:
    """One application, from its start to its end."""

    def __init__(
        self,
        app: web.Application,
        stop: StopRequest,
        watchdog: Watchdog,
        on_started: Callable[[], None] | None,
    ) -> None:
        self._app = app
        self._config = options.get_config(app)
        self._lifecycle = features.get_lifecycle(app)
        self._stop_request = stop
        self._watchdog = watchdog
        self._on_started = on_started
        self._timeout_s = cast(float, self._config['shutdown_timeout_s'])
        self._runner = _Runner(self._lifecycle, app, log_requests=bool(self._config['debug']))

    def guard(self) -> None:
        """See that a stop which has been asked for comes to an end, if the loop is blocked, too."""
        self._watchdog.start(
            cast(float, self._config['pre_stop_s']) + self._timeout_s + _LATE_S + _GRACE_S
        )

    async def run(self, listen_http: bool, any_port: bool, path: str | None) -> int:
        sockets: list[socket.socket] = []
        self._lifecycle.failure = None
        if listen_http:
            try:
                sockets = [gate.bind_path(path)] if path else self._bind(any_port)
            except OSError as error:
                LOGGER.critical('%s', error.strerror)
                self._lifecycle.failure = error
                return 1
        if sockets and path is None:
            host, port = sockets[0].getsockname()[:2]
            self._lifecycle.address = host, port
        self._lifecycle.on_failure = self._stop_request.set
        try:
            return await self._live(sockets)
        finally:
            self._lifecycle.on_failure = self._lifecycle.address = None
            for bound in sockets:
                bound.close()
            if sockets and path is not None:
                os.unlink(path)

    def _bind(self, any_port: bool) -> list[socket.socket]:
        host, port = str(self._config['host']), cast(int, self._config['port'])
        try:
            return gate.bind(host, port)
        except OSError as error:
            if not any_port or error.errno != errno.EADDRINUSE:
                raise
            LOGGER.info('Port %d is taken, so any free one is used', port)
            return gate.bind(host, 0)

    async def _live(self, sockets: list[socket.socket]) -> int:
        begun = time.monotonic()
        entrance = gate.Gate(
            self._lifecycle, sockets, self._app.get(PREFIX, ''), self._app.get(CORS)
        )
        await entrance.open()
        for bound in sockets:
            LOGGER.info('Listening on %s', gate.url_of(bound))
        try:
            if await self._start():
                entrance.admit(cast(web.Server, self._runner.server))
                LOGGER.info('Started in %.0f ms', (time.monotonic() - begun) * 1000)
                if self._on_started is not None:
                    self._on_started()
                await self._stop_request.wait()
                self._lifecycle.begin_stop()
                await asyncio.sleep(cast(float, self._config['pre_stop_s']))
        except asyncio.CancelledError:
            # Whoever runs us in a loop of their own may end us like any other task.
            await self._stop(entrance)
            raise
        except Exception as error:  # noqa: BLE001  # logged there, with its traceback
            _tell(error)
            self._lifecycle.failure = error
            await self._stop(entrance)
            return 1
        return await self._stop(entrance)

    async def _start(self) -> bool:
        """Start the application; False when it was told to stop before that was done."""
        starting = asyncio.ensure_future(self._runner.setup())
        stopping = asyncio.ensure_future(self._stop_request.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if not starting.done():
                self._watchdog.start(self._timeout_s + _GRACE_S)
                starting.cancel()
                await asyncio.wait({starting}, timeout=self._timeout_s)
        if not starting.done():
            raise TimeoutError(f'starting did not end within {self._timeout_s:.1f} s')
        if starting.cancelled():
            return False
        starting.result()
        return True

    async def _stop(self, entrance: gate.Gate) -> int:
        self._watchdog.start(self._timeout_s + _GRACE_S)
        self._lifecycle.limit_stop(self._timeout_s)
        await self._lifecycle.before_shutdown()
        await entrance.close()
        clean = await self._clean_up()
        await self._lifecycle.shutdown()  # nothing to do, unless what comes before was cut short
        clean = clean and not self._lifecycle.failures and not self._runner.cut
        LOGGER.info('Stopped' if clean else 'Stopped, but not cleanly')
        return 0 if clean and self._lifecycle.failure is None else 1

    async def _clean_up(self) -> bool:
        """Close the port, let requests finish, run aiohttp's own hooks; False if that failed."""
        if self._runner.server is None:
            # Nothing was served; of a failed start aiohttp cleans up `cleanup_ctx` alone.
            await self._lifecycle.shutdown()
        # Hooks of features have limits of their own; this one is for those of the user.
        limit_s = self._lifecycle.remaining_s + _GRACE_S / 2
        limit = asyncio.timeout(limit_s)
        try:
            async with limit:
                await self._runner.cleanup()
        except Exception as error:
            if limit.expired():
                LOGGER.error('on_shutdown or on_cleanup did not end within %.1f s', limit_s)
            else:
                LOGGER.error('on_shutdown or on_cleanup failed', exc_info=error)
            return False
        return True


def _tell(error: Exception) -> None:
    """Log, once, why the service did not start."""
    # What is wrong outside the program is said in a line; the rest may be a bug in it.
    told = isinstance(error, errors.ConfigError | errors.EventError)
    where = ''.join(f' ({note})' for note in getattr(error, '__notes__', ()))
    LOGGER.critical(
        'The service did not start: %s%s', error, where, exc_info=None if told else error
    )


class _Runner(web.AppRunner):
    """aiohttp's runner; between closing the port and closing features it lets requests finish.

    Attributes:
        cut: Connections whose request had not finished in time.
    """

    __slots__ = ('_lifecycle', 'cut')

    def __init__(
        self, lifecycle: features.Lifecycle, app: web.Application, *, log_requests: bool
    ) -> None:
        # Not logged otherwise: it costs as much as a small request, and metrics count them.
        log = logging.getLogger('aiohttp.access') if log_requests else None
        super().__init__(app, access_log=log, shutdown_timeout=0.1)
        self._lifecycle = lifecycle
        self.cut = 0

    async def shutdown(self) -> None:
        await super().shutdown()
        if self.server is None:
            return
        limit_s = self._lifecycle.spare_s
        # Its own limit it would wait for twice, before and after giving up on a request.
        closing = asyncio.ensure_future(self.server.shutdown(limit_s + _GRACE_S))
        await asyncio.wait({closing}, timeout=limit_s)
        if not closing.done():
            self.cut = len(self.server.connections)
            LOGGER.error('%d requests did not finish within %.1f s', self.cut, limit_s)
            closing.cancel()
