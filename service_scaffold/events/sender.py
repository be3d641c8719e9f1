"""Sending over the connection of the moment: confirmed, or an error in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from service_scaffold import errors
from service_scaffold.events.connection import Connection
from service_scaffold.events.stats import PublishStats
from service_scaffold.message import Message
from service_scaffold.transports.base import Progress, Settings, Transport

SILENCE = 0.9
"""So much of the publisher's time limit without a confirm ends the connection; not all of it, since
a call's wait for its confirm begins after its limit."""


class Sender:
    """Sends messages for a publisher, within a time limit.

    Args:
        settings: Where to, and how long a silent connection is trusted.
        connection: Gives the transport.
        stats: Counts what was confirmed and what was not.
    """

    def __init__(self, settings: Settings, connection: Connection, stats: PublishStats) -> None:
        self._address = settings.address
        self._full_s = settings.publish_timeout_s
        self._connection = connection
        self._stats = stats
        self._silence = _Silence()

    async def send(self, message: Message, limit_s: float, *, mandatory: bool = False) -> None:
        """Send one message; raises PublishError, or NoResponder for a mandatory one."""
        try:
            failures = await self._deliver([message], limit_s, mandatory=mandatory)
        except errors.PublishError:
            self._stats.count(message.exchange, 0, 1)
            raise
        if failures:
            self._stats.count(message.exchange, 0, 1)
            raise self._refused(message, failures[0])
        self._stats.count(message.exchange, 1)

    async def send_all(self, exchange: str, messages: Sequence[Message], limit_s: float) -> None:
        """Send messages to one exchange; raises PublishError with the positions that failed."""
        try:
            failures = await self._deliver(messages, limit_s)
        except errors.PublishError as error:
            failed = error.failed or tuple(range(len(messages)))
            self._stats.count(exchange, len(messages) - len(failed), len(failed))
            raise
        self._stats.count(exchange, len(messages) - len(failures), len(failures))
        if failures:
            first = min(failures)
            refused = self._refused(messages[first], failures[first])
            raise errors.PublishError(
                f'{len(failures)} of {len(messages)} messages are not confirmed; the first: '
                f'{refused}',
                phase='confirm',
                failed=tuple(sorted(failures)),
            ) from failures[first]

    async def _deliver(
        self, messages: Sequence[Message], limit_s: float, *, mandatory: bool = False
    ) -> Mapping[int, Exception]:
        """Publish over the connection, once more if it was stale and no byte has left."""
        progress = Progress()
        loop = asyncio.get_running_loop()
        transport: Transport | None = None
        began = 0.0
        try:
            async with asyncio.timeout(limit_s) as limit:

                def confirmed() -> None:
                    self._silence.end()
                    if not limit.expired():  # a confirm may come in the moment of the end
                        limit.reschedule(loop.time() + limit_s)

                progress.on_confirm = confirmed
                for attempt in (1, 2):
                    transport = None
                    transport = await self._connection.obtain()
                    began = time.monotonic()
                    try:
                        return await transport.publish(messages, progress, mandatory=mandatory)
                    except errors.ConnectionLost as error:
                        transport.lose(error)
                        if attempt == 2 or progress.phase != 'connect':
                            raise
        except TimeoutError as error:
            if transport is not None:
                self._doubt(transport, self._silence.add(transport, began, limit_s))
            raise self.failure(messages, progress, f'no confirm within {limit_s:g} s') from error
        except (errors.TransportError, OSError) as error:
            raise self.failure(messages, progress, str(error)) from error
        finally:
            # The limit is over; a confirm that still comes tells that the connection is alive.
            progress.on_confirm = self._silence.end
        raise AssertionError('unreachable')

    def _doubt(self, transport: Transport, silent_s: float) -> None:
        if silent_s >= SILENCE * self._full_s:
            transport.lose(errors.ConnectionLost('the broker has stopped confirming'))

    def failure(
        self, messages: Sequence[Message], progress: Progress, reason: str
    ) -> errors.PublishError:
        """Return the error for messages that are not confirmed, for that reason."""
        first = messages[0]
        what = f'{first.exchange}/{first.routing}'
        if len(messages) > 1:
            what += f' and {len(messages) - 1} more'
        return errors.PublishError(
            f'Cannot publish {what} to {self._address} (phase {progress.phase}): {reason}',
            phase=progress.phase,
            failed=progress.unconfirmed(len(messages)) if len(messages) > 1 else (),
        )

    def _refused(self, message: Message, error: Exception) -> Exception:
        if isinstance(error, errors.PublishError | errors.NoResponder):
            return error
        refusal = errors.PublishError(
            f'Cannot publish {message.exchange}/{message.routing}: {error}',
            phase='confirm',
            maybe_sent=False,
        )
        refusal.__cause__ = error
        return refusal


class _Silence:
    """For how long callers have waited since the broker's last confirm, pauses left out.

    A call that gives up says little about a connection that it got late, or that confirms what
    others publish; but where all calls give up early, a dead one must be noticed, too.
    """

    __slots__ = ('_counted_until', '_transport', '_waited_s')

    def __init__(self) -> None:
        self._transport: Transport | None = None
        self._waited_s = 0.0
        self._counted_until = 0.0

    def add(self, transport: Transport, began: float, limit_s: float) -> float:
        """Count the wait of one call, begun at `began`, as far as no other call has.

        What it has waited over its limit was for this process, not for the broker.

        Returns the seconds of silence on its connection, this wait included.
        """
        if transport is not self._transport:
            self._transport, self._waited_s = transport, 0.0
        now = time.monotonic()
        self._waited_s += min(limit_s, max(0.0, now - max(began, self._counted_until)))
        self._counted_until = now
        return self._waited_s

    def end(self) -> None:
        """Begin anew: the broker has confirmed something."""
        self._waited_s = 0.0
        self._counted_until = time.monotonic()
