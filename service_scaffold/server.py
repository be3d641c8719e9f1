"""The life of the process: bind, start, serve until told to stop, stop in order, exit status."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar, cast

from aiohttp import web

from service_scaffold import errors, features, options
from service_scaffold.http import gate
from service_scaffold.http.cors import CORS
from service_scaffold.http.prefix import PREFIX

LOGGER = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_GRACE_S = 1.0

ECHO_S = 0.05
"""A signal this soon after the first is the same request: tools signal a process and its group."""


class StopRequest:
    """Whether, and how, the service was told to stop. The first request counts.

    Signals may come at any time and while the loop is blocked, so they are handled by Python's own
    handlers and not by the loop's: the second one ends the process whatever it is doing. One signal
    stops every service of the process.
    """

    _listening: ClassVar[list[StopRequest]] = []
    _before: ClassVar[dict[signal.Signals, Any]] = {}  # what the module gives
    _signalled_at: ClassVar[float | None] = None

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def set(self) -> None:
        """Ask to stop; from the loop's thread."""
        self._event.set()

    async def wait(self) -> None:
        """Wait until somebody has asked."""
        await self._event.wait()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Ask on SIGTERM and SIGINT. Outside the main thread signals are left alone."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        if not self._listening:
            StopRequest._signalled_at = None
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._on_signal)
        self._listening.append(self)
        try:
            yield
        finally:
            self._listening.remove(self)
            if not self._listening:
                for number, handler in self._before.items():
                    signal.signal(number, handler)

    @classmethod
    def _on_signal(cls, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        now = time.monotonic()
        if cls._signalled_at is not None:
            if now - cls._signalled_at < ECHO_S:
                return
            # Not through logging: the signal may have come while it holds its locks.
            os.write(2, f'{name} again: exiting at once\n'.encode())
            os._exit(1)
        cls._signalled_at = now
        for request in cls._listening:
            request._loop.call_soon_threadsafe(request._announce, name)

    def _announce(self, name: str) -> None:
        LOGGER.info('%s: stopping', name)
        self._event.set()


class Watchdog:
    """Ends the process when stopping takes longer than it may, even if the loop is blocked."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None
        self._released = False

    def start(self, seconds: float) -> None:
        """Allow `seconds` from now; only the first call counts."""
        if self._timer is None:
            self._timer = threading.Timer(seconds, self._bite, args=(seconds,))
            self._timer.daemon = True
            self._timer.start()

    def release(self) -> None:
        """The service has stopped; what is left to guard is the exit, if it is under way by then.

        A program waits at its end for each thread that is no daemon, for as long as that takes.
        """
        self._released = True

    def cancel(self) -> None:
        """All has stopped in time."""
        if self._timer is not None:
            self._timer.cancel()

    def _bite(self, seconds: float) -> None:
        # The flag, as main_thread() counts as alive while the threads of executors are awaited.
        exiting = getattr(threading, '_SHUTTING_DOWN', False)
        if self._released and not exiting and threading.main_thread().is_alive():
            return  # the program goes on after `run`, which is its own affair
        names = ', '.join(thread.name for thread in threading.enumerate() if not thread.daemon)
        os.write(2, f'Not stopped within {seconds:.1f} s: exiting with {names}\n'.encode())
        os._exit(1)


class Tame(Watchdog):
    """Ends nothing: for whoever runs us within a program of their own."""

    def start(self, seconds: float) -> None:
        """Do nothing."""


async def serve(
    app: web.Application,
    *,
    listen_http: bool = True,
    any_port: bool = False,
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
        signals: Whether SIGTERM and SIGINT end it; without them the process is not ours, and
            not ended either when stopping takes too long.
        stop: Ends it as well; for whoever has a reason of its own to stop.
        on_started: Called when the application serves.
        watchdog: Guards the stop beyond the end of this coroutine; the caller cancels it.
    """
    own = (Watchdog() if signals else Tame()) if watchdog is None else watchdog
    request = StopRequest() if stop is None else stop
    try:
        with request.on_signals() if signals else contextlib.nullcontext():
            server = _Server(app, request, own, on_started)
            return await server.run(listen_http, any_port)
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

    async def run(self, listen_http: bool, any_port: bool) -> int:
        sockets: list[socket.socket] = []
        self._lifecycle.failure = None
        if listen_http:
            try:
                sockets = self._bind(any_port)
            except OSError as error:
                LOGGER.critical('%s', error.strerror)
                self._lifecycle.failure = error
                return 1
        host, port = sockets[0].getsockname()[:2] if sockets else ('', 0)
        self._lifecycle.address = (host, port) if sockets else None
        self._lifecycle.on_failure = self._stop_request.set
        try:
            return await self._live(sockets)
        finally:
            self._lifecycle.on_failure = self._lifecycle.address = None
            for bound in sockets:
                bound.close()

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
            LOGGER.info('Listening on http://%s', gate.show(*bound.getsockname()[:2]))
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
