"""Where messages go that cannot be handled."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

from service_scaffold.backoff import Backoff
from service_scaffold.clock import Clock
from service_scaffold.events.outlet import Outlet
from service_scaffold.events.subscription import EventSubscription
from service_scaffold.message import Message
from service_scaffold.transports import headers

LOGGER = logging.getLogger(__name__)

Reason = Literal['rejected', 'retries_exhausted', 'undecodable', 'invalid', 'expired']


class Death(Exception):
    """A message has come to its end without being handled; never leaves the package."""

    def __init__(self, reason: Reason, error: Exception, attempts: int) -> None:
        super().__init__(reason)
        self.reason: Reason = reason
        self.error = error
        self.attempts = attempts


class Graveyard:
    """Dead-letters, or drops with a log, the messages of one subscription."""

    def __init__(self, subscription: EventSubscription, clock: Clock, outlet: Outlet) -> None:
        self._subscription = subscription
        self._clock = clock
        self._backoff = Backoff(base_s=0.5, max_s=10.0)
        self._outlet = outlet

    async def bury(self, message: Message, death: Death) -> None:
        """Store the message as a dead letter, however long that takes, or drop it with a log."""
        subscription = self._subscription
        _log(subscription, message, death)
        if not subscription.keeps_dead_letters:
            subscription.stats.dropped += 1
            return
        letter = message.replace(headers={**_kept(message), **self._facts(message, death)})
        good = self._connected
        error = await self._store(letter)
        if error is not None:
            await self._insist(letter, error, tried=int(good))
        subscription.stats.dead_lettered += 1

    async def _insist(self, letter: Message, error: Exception | None, tried: int) -> None:
        """Try until the store takes the letter, and have the subscription say so meanwhile.

        Args:
            error: Why it was not taken at first.
            tried: How often that was on a connection that seemed good.
        """
        subscription = self._subscription
        if subscription.letters_waiting == 0:
            LOGGER.warning(
                '%s: the dead-letter store %s.dlq cannot be reached; the message waits: %s',
                subscription,
                letter.exchange,
                error,
            )
        attempt = 0
        subscription.letter_waits()
        try:
            while error is not None:
                subscription.last_error = error
                attempt += 1
                delay_s = self._backoff.delay(attempt)
                LOGGER.debug(
                    '%s: attempt %d to store the dead letter %s failed, next in %.2f s: %s',
                    subscription,
                    attempt,
                    letter.message_id,
                    delay_s,
                    error,
                )
                # Brokers may refuse by ending the connection: a letter that is sent again with
                # each new one would end them all, and with them whatever else they are for.
                await self._wait(delay_s, or_attached=tried < 2)
                tried += self._connected
                error = await self._store(letter)
        finally:
            subscription.letter_gone()

    @property
    def _connected(self) -> bool:
        return not self._outlet.transport.lost.done()

    async def _store(self, letter: Message) -> Exception | None:
        transport = self._outlet.transport
        try:
            async with asyncio.timeout(transport.settings.publish_timeout_s):
                await transport.dead_letter(letter)
        except Exception as error:  # noqa: BLE001 - whatever it is, the message must not be lost
            return error if str(error) else TimeoutError('no confirm in time')
        return None

    async def _wait(self, delay_s: float, *, or_attached: bool) -> None:
        """Pause, until there is a new connection if that shall end it."""
        ends = [asyncio.ensure_future(self._clock.sleep(delay_s))]
        if or_attached:
            ends.append(asyncio.ensure_future(self._outlet.attached()))
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()

    def _facts(self, message: Message, death: Death) -> dict[str, str]:
        error = f'{type(death.error).__name__}: {death.error}'
        return {
            headers.DEATH_REASON: death.reason,
            headers.DEATH_ERROR: error[: headers.LONGEST_ERROR],
            headers.DEATH_ATTEMPTS: str(death.attempts),
            headers.DEATH_TIME: f'{self._clock.time():.3f}',
            headers.ORIGIN: message.exchange,
            headers.ORIGIN_ROUTING: message.routing,
            headers.ORIGIN_GROUP: self._subscription.group or '',
            headers.ORIGIN_MESSAGE_ID: message.message_id,
        }


def _kept(message: Message) -> dict[str, str]:
    """Return the headers without those that would keep readers of the dead letters from it."""
    return {
        name: value
        for name, value in message.headers.items()
        if name not in (headers.DEADLINE, headers.REPLAY_GROUP)
    }


def _log(subscription: EventSubscription, message: Message, death: Death) -> None:
    kept = subscription.keeps_dead_letters
    end = 'goes to the dead letters' if kept else 'is dropped'
    level = logging.WARNING if kept else logging.ERROR
    handled = death.reason in ('rejected', 'retries_exhausted')
    LOGGER.log(
        level,
        '%s: message %s (routing %s) %s: %s%s: %s: %s',
        subscription,
        message.message_id,
        message.routing,
        end,
        death.reason,
        f' after {death.attempts} attempts' if death.attempts > 1 else '',
        type(death.error).__name__,
        death.error,
        exc_info=death.error if handled and death.reason != 'rejected' else None,
    )
