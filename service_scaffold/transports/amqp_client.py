"""The AMQP connection: every wait on it has a limit, and ends when it does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, ClassVar, TypeVar

from service_scaffold import errors
from service_scaffold.transports.amqp_socket import Reader, dial
from service_scaffold.transports.amqp_wire import (
    LIBRARY_ERRORS,
    Channel,
    Connection,
    Refused,
    close_quietly,
    is_undecodable,
    log_in,
    new_channel,
    new_connection,
    quieten,
    refused,
    text_of_error,
)
from service_scaffold.transports.base import Settings

LOGGER = logging.getLogger(__name__)

T = TypeVar('T')

_FAREWELL_S = 0.2
_GRACEFUL_S = 1.0
_ABORT_S = 0.5


class Client:
    """One connection to RabbitMQ; every wait ends with it.

    Args:
        heartbeat_s: Seconds between heartbeats; silence of three times that ends the connection.

    Attributes:
        ended: Done, with the reason, when the connection has ended, by itself or by `close`.
    """

    careful: ClassVar[bool] = False
    """Whether frames are checked before they are decoded, at some cost; set for all later
    connections of the process by the first frame that the library could not decode."""

    def __init__(self, settings: Settings, *, heartbeat_s: int) -> None:
        self._settings = settings
        self._heartbeat_s = heartbeat_s
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Exception] = self._loop.create_future()
        self._connection: Connection | None = None
        self._reader: Reader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._farewell: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Connect and log in.

        Raises:
            BrokerUnreachable: No host answers, or not as a broker.
            AccessRefused: Credentials or virtual host are refused.
        """
        quieten()
        self._reader, self._writer = await dial(self._settings, self._on_stream_end)
        connection = new_connection(
            self._settings, self._heartbeat_s, self._reader, self._writer, careful=self.careful
        )
        self._connection = connection
        try:
            await self._log_in(connection)
        except BaseException:
            self._abort()
            raise
        connection.closing.add_done_callback(self._on_closing)
        if self._heartbeat_s:
            self._watch()

    async def channel(self, *, confirms: bool = False) -> Channel:
        """Open a channel, in confirm mode or not.

        Raises:
            ConnectionLost: The connection has ended.
            BindingRefused: The connection has no channel left.
        """
        connection = self._connection
        if connection is None or self.ended.done():
            raise self.reason()
        channel = new_channel(connection, confirms=confirms)
        try:
            await self.call(channel.open())
        except Refused as error:
            raise errors.BindingRefused(f'No channel could be opened: {error.text}') from error
        return channel

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run one request of the library until its answer, the connection's end, or our limit.

        A cancelled caller leaves at once; the library's own clean-up may wait for the socket, and
        does so in a task that `close` ends.

        Raises:
            Refused: The broker refuses it, or does not answer; the channel is of no use any more.
            ConnectionLost: The connection has ended.
        """
        task = self._own(work)
        limit_s = self._settings.connect_timeout_s
        try:
            await self._first(task, limit_s)
        finally:
            task.cancel()
        if not task.done():
            if self.ended.done():
                raise self.reason()
            # One queue without a majority is enough for that; the watchdog judges the connection.
            raise Refused(0, f'no answer within {limit_s:g} s')
        try:
            return task.result()
        except asyncio.CancelledError as error:  # not ours: the library's for "channel closed"
            raise self._translated(error) from error
        except LIBRARY_ERRORS as error:
            raise self._translated(error) from error

    def discard(self, channel: Channel | None) -> None:
        """Close a channel in the background, if it is open still."""
        if channel is not None and not channel.is_closed and not self.ended.done():
            self._own(close_quietly(channel))

    async def close_channel(self, channel: Channel, limit_s: float) -> None:
        """Close a channel and wait for it, but not for long."""
        if not channel.is_closed and not self.ended.done():
            task = self._own(close_quietly(channel))
            await self._first(task, limit_s)

    def refusal(self, channel: Channel) -> Refused:
        """Return why a channel has closed."""
        closing = channel.closing
        error = None if closing.cancelled() else closing.exception()
        return refused(error if isinstance(error, Exception) else None)

    def reason(self) -> Exception:
        """Return a new error that says why the connection has ended."""
        text = str(self.ended.result()) if self.ended.done() else f'{self._where()}: not connected'
        return errors.ConnectionLost(text)

    def end(self, reason: Exception) -> None:
        """Note that the connection has ended; only the first reason counts."""
        if not self.ended.done():
            self.ended.set_result(reason)

    async def close(self) -> None:
        """End the connection, politely if the broker answers; in 2 s at most."""
        alive = not self.ended.done()
        self.end(errors.ConnectionLost(f'{self._where()}: closed'))
        for timer in (self._watchdog, self._farewell):
            if timer is not None:
                timer.cancel()
        connection = self._connection
        waiting: set[asyncio.Future[Any]] = set(self._tasks)
        if connection is not None and not connection.is_closed:
            waiting.add(self._own(connection.close()))
            if alive:
                await asyncio.wait(waiting, timeout=_GRACEFUL_S)
        self._abort()
        for task in waiting:
            task.cancel()
        if connection is not None and not connection.is_closed:
            waiting.add(connection.closing)
        if waiting:
            await asyncio.wait(waiting, timeout=_ABORT_S)

    async def _log_in(self, connection: Connection) -> None:
        task = self._own(log_in(connection, self._settings))
        limit_s = self._settings.connect_timeout_s
        try:
            await asyncio.wait({task}, timeout=limit_s)
        finally:
            task.cancel()
        if not task.done():
            raise errors.BrokerUnreachable(
                f'{self._settings.address} does not answer within {limit_s:g} s'
            )
        try:
            task.result()
        except asyncio.CancelledError as error:  # not ours: the library's for "closed meanwhile"
            raise errors.BrokerUnreachable(f'{self._settings.address} hung up') from error

    def _where(self) -> str:
        return f'Connection to {self._settings.address}'

    async def _first(self, task: asyncio.Task[Any], limit_s: float) -> None:
        either: set[asyncio.Future[Any]] = {task, self.ended}
        await asyncio.wait(either, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)

    def _own(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved: whoever waited has it, or has left

    def _translated(self, error: BaseException) -> Exception:
        if self.ended.done():
            return self.reason()
        if self._connection is None or self._connection.is_closed:
            self.end(errors.ConnectionLost(f'{self._where()} has ended: {text_of_error(error)}'))
            return self.reason()
        return refused(error)

    def _watch(self) -> None:
        """Look for a half-open connection; aiormq looks too rarely for our promise."""
        assert self._reader is not None
        silent_s = self._loop.time() - self._reader.heard
        if silent_s > 3 * self._heartbeat_s:
            self.end(errors.ConnectionLost(f'{self._where()}: nothing heard for {silent_s:.0f} s'))
            self._abort()
        elif not self.ended.done():
            self._watchdog = self._loop.call_later(self._heartbeat_s / 10, self._watch)

    def _on_stream_end(self, error: Exception | None) -> None:
        # The library may be about to read the broker's reason, so it gets a moment to tell.
        why = 'closed by the broker' if error is None else text_of_error(error)
        reason = errors.ConnectionLost(f'{self._where()} has ended: {why}')
        self._farewell = self._loop.call_later(_FAREWELL_S, self.end, reason)

    def _on_closing(self, closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        if is_undecodable(error) and not Client.careful:
            Client.careful = True
            LOGGER.warning(
                'A message has properties that cannot be decoded (%s); from now on they are left'
                ' out, so that it reaches its handler or the dead letters',
                text_of_error(error),
            )
        self.end(errors.ConnectionLost(f'{self._where()} has ended: {text_of_error(error)}'))

    def _abort(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
