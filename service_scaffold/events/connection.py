"""The one supervisor: connects, says when the connection is up or lost, and connects again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from service_scaffold import errors
from service_scaffold.backoff import Backoff
from service_scaffold.clock import Clock
from service_scaffold.events.lanes import Spawn
from service_scaffold.transports.base import Transport

LOGGER = logging.getLogger(__name__)

STABLE_S = 30.0
"""A connection that held this long was no part of the last outage."""
CLOSE_LIMIT_S = 3.0


class Connection:
    """Keeps one connection up from the first `demand` until `stop`, whatever the broker does.

    Args:
        label: What it is for, in logs.
        open_transport: Makes a new transport for each attempt.
        use: Runs while a connection is up; cancelled when it is lost.
        spawn: Starts the supervising task.
        clock: What pauses are measured with.
        on_failure: Told why an attempt has failed.

    Attributes:
        transport: The one that is up, None while there is none.
        error: Why there is none although it was wanted; None before the first attempt has ended.
        reconnects: How often a lost connection was restored.
    """

    def __init__(
        self,
        label: str,
        open_transport: Callable[[], Transport],
        spawn: Spawn,
        clock: Clock,
        use: Callable[[Transport], Awaitable[None]] | None = None,
        on_failure: Callable[[Exception], None] | None = None,
    ) -> None:
        self.label = label
        self.transport: Transport | None = None
        self.error: Exception | None = None
        self.reconnects = 0
        self._open = open_transport
        self._use = use or _idle
        self._on_failure = on_failure
        self._spawn = spawn
        self._clock = clock
        self._backoff = Backoff()
        self._task: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._poked = asyncio.Event()
        self._attempt: asyncio.Future[Transport] | None = None
        self._connecting = False
        self._failures = 0
        self._down_since: float | None = None
        self._stopped = False

    @property
    def up(self) -> bool:
        """Whether there is a connection now."""
        return self.transport is not None and not self.transport.lost.done()

    def demand(self) -> None:
        """Begin connecting, if that has not happened; wake up from a pause between attempts."""
        if self._stopped:
            return
        if self._task is None:
            self._task = self._spawn(self._supervise(), f'{self.label} connection')
        self._poked.set()

    async def obtain(self) -> Transport:
        """Return the connection, made now if there is none; all who wait share one attempt.

        The caller bounds the time.

        Raises:
            TransportError: The attempt failed, or the connection was stopped.
        """
        underway = self._connecting
        try:
            return await self._next()
        except Exception:
            # An attempt that had begun before this call may have met what is over by now.
            if not underway or self._stopped:
                raise
        return await self._next()

    async def _next(self) -> Transport:
        if self.transport is not None and not self.transport.lost.done():
            return self.transport
        if self._stopped:
            raise errors.BrokerUnreachable(f'{self.label} is stopped')
        if self._attempt is None:
            self._attempt = asyncio.get_running_loop().create_future()
        self.demand()
        return await asyncio.shield(self._attempt)

    async def stop(self) -> None:
        """End the connection for good. Idempotent."""
        self._stopped = True
        self._settle_attempt(errors.BrokerUnreachable(f'{self.label} is stopped'))
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        if self._closing:
            _, late = await asyncio.wait(self._closing, timeout=CLOSE_LIMIT_S)
            if late:
                LOGGER.warning('%s: not closed after %g s', self.label, CLOSE_LIMIT_S)

    async def _supervise(self) -> None:
        while True:
            self._poked.clear()
            self._connecting = True
            try:
                transport = await self._connect()
            finally:
                self._connecting = False
            if transport is None:
                await self._pause()
                continue
            up_at = self._clock.monotonic()
            try:
                await self._hold(transport)
            finally:
                self.transport = None
                self._discard(transport)
            if self._clock.monotonic() - up_at >= STABLE_S:
                self._failures = 0
            self._failures += 1
            self._down_since = self._clock.monotonic()
            await self._pause()

    async def _connect(self) -> Transport | None:
        transport: Transport | None = None
        try:
            transport = self._open()
            async with asyncio.timeout(transport.settings.connect_timeout_s):
                await transport.connect()
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError):
                if task is None or task.cancelling():
                    if transport is not None:
                        self._discard(transport)
                    raise
                error = errors.BrokerUnreachable('the client has cancelled the attempt itself')
            if not isinstance(error, errors.ScaffoldError | OSError):
                LOGGER.exception('%s: connecting failed unexpectedly', self.label)
            self._failed(_reason(error, transport))
            if transport is not None:
                self._discard(transport)
            return None
        self._restored(transport)
        return transport

    async def _hold(self, transport: Transport) -> None:
        """Stay until the connection is lost, or its use has failed."""
        use = asyncio.ensure_future(self._use(transport))
        try:
            either: set[asyncio.Future[Any]] = {use, transport.lost}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if use.done() and not transport.lost.done():
                failure = asyncio.CancelledError() if use.cancelled() else use.exception()
                LOGGER.error('%s: failed unexpectedly', self.label, exc_info=failure)
                transport.lose(errors.ConnectionLost(f'{type(failure).__name__}: {failure}'))
            await transport.lost
        finally:
            use.cancel()
            await asyncio.wait({use})
        self.error = transport.lost.result()
        LOGGER.warning(
            '%s: connection to %s lost: %s', self.label, transport.settings.address, self.error
        )

    async def _pause(self) -> None:
        """Wait for the next attempt; somebody's `demand` ends the wait."""
        if self._attempt is not None:
            return
        poked = asyncio.ensure_future(self._poked.wait())
        slept = asyncio.ensure_future(self._clock.sleep(self._backoff.delay(self._failures)))
        try:
            await asyncio.wait({poked, slept}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            poked.cancel()
            slept.cancel()

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self.error = error
        if self._down_since is None:
            self._down_since = self._clock.monotonic()
            LOGGER.warning('%s: no connection, will keep trying: %s', self.label, error)
        else:
            LOGGER.debug('%s: attempt %d failed: %s', self.label, self._failures, error)
        if self._on_failure is not None:
            self._on_failure(error)
        self._settle_attempt(error)

    def _restored(self, transport: Transport) -> None:
        self.transport = transport
        self.error = None
        address = transport.settings.address
        if self._down_since is None:
            LOGGER.info('%s: connected to %s', self.label, address)
        else:
            self.reconnects += 1
            LOGGER.info(
                '%s: connection to %s restored after %.1f s, %d attempts',
                self.label,
                address,
                self._clock.monotonic() - self._down_since,
                self._failures,
            )
        self._down_since = None
        if self._attempt is not None:
            attempt, self._attempt = self._attempt, None
            if not attempt.done():
                attempt.set_result(transport)

    def _settle_attempt(self, error: Exception) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None and not attempt.done():
            attempt.set_exception(error)
            attempt.exception()  # whoever waited may have run out of time: not an unseen error

    def _discard(self, transport: Transport) -> None:
        """Close a transport without holding up anybody."""
        task = asyncio.ensure_future(_close(transport))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _idle(transport: Transport) -> None:
    await transport.lost


async def _close(transport: Transport) -> None:
    # Without a limit but its own: an event loop that stood still would cut it off half-way, and
    # what it had not reached would stay open.
    try:
        await transport.close()
    except Exception as error:  # noqa: BLE001 - it is thrown away; nothing depends on it
        LOGGER.warning('Closing a connection failed: %s', error or type(error).__name__)


def _reason(error: Exception, transport: Transport | None) -> Exception:
    """Return what to tell those who wanted the connection, whatever a client has raised."""
    if isinstance(error, TimeoutError) and transport is not None:
        settings = transport.settings
        return errors.BrokerUnreachable(
            f'{settings.address} does not answer within {settings.connect_timeout_s:g} s'
        )
    if not isinstance(error, errors.ScaffoldError):
        return errors.BrokerUnreachable(f'{type(error).__name__}: {error}')
    return error
