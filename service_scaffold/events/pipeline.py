"""What happens to one delivery, from the transport's hands until it may be settled.

Without middlewares and time limit a delivery costs one decode and one awaited call; the envelope
is built only for those who ask. With them the order is: middlewares, dead letter, decode (once),
retry, time limit of one attempt, handler. Whatever the end, `run` goes on to the next delivery when
one may be settled, and is cancelled when it must not be.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from time import perf_counter
from typing import Any

from service_scaffold import codecs
from service_scaffold.clock import Clock
from service_scaffold.errors import DecodeError, InvalidBody, Reject, RetryLater
from service_scaffold.events.answers import Answers
from service_scaffold.events.current import CURRENT, ENVELOPE, SUBSCRIPTION
from service_scaffold.events.graveyard import Death, Graveyard
from service_scaffold.events.outlet import Outlet
from service_scaffold.events.signature import message_type
from service_scaffold.events.subscription import EventSubscription
from service_scaffold.message import Handler, Message, Middleware, compose
from service_scaffold.transports import headers
from service_scaffold.transports.base import Delivery, Transport

LOGGER = logging.getLogger(__name__)

QUICK_S = 0.001
PAUSE_S = 1.0
_JSON = frozenset((None, codecs.JSON))
_BURIED: ContextVar[list[Exception] | None] = ContextVar('buried', default=None)


class Pipeline:
    """Handles the deliveries of one subscription.

    Args:
        subscription: Whose handler and policy count.
        middlewares: Gives the middlewares, first one outermost, whenever it is compiled.
        clock: What pauses and deadlines are measured with.
        outlet: Where dead letters and answers go.

    Attributes:
        finished_at: When the last delivery was done with (`time.perf_counter`).
    """

    def __init__(
        self,
        subscription: EventSubscription,
        middlewares: Callable[[], Sequence[Middleware]],
        clock: Clock,
        outlet: Outlet,
    ) -> None:
        self.subscription = subscription
        self.stats = subscription.stats
        self._middlewares = middlewares
        self._clock = clock
        self._answers = Answers(outlet, clock)
        self._graveyard = Graveyard(subscription, clock, outlet)
        self.finished_at = 0.0
        self.compile()

    def compile(self) -> None:
        """Take over the subscription's handler and the middlewares as they are now.

        Raises:
            TypeError: The handler does not take `(subscription, key, message)`, or the type that
                it declares cannot be decoded into.
        """
        call = self.subscription.on_message
        self._decoder = codecs.Decoder(message_type(call))
        self._call = call
        self._decode_json = self._decoder.json
        middlewares = self._middlewares()
        self._chain: Handler = compose(middlewares, self._process)
        self._plain = not middlewares and self.subscription.policy.timeout_s is None

    async def rest(self) -> None:
        """Pause after a failure that is not the handler's, before its message comes again."""
        await self._clock.sleep(PAUSE_S)

    async def run(self, deliveries: Iterable[Delivery], transport: Transport) -> None:
        """Handle deliveries one after the other, each to its end.

        The next one is only asked for when the one before may be settled.

        Raises:
            CancelledError: We are shutting down: the one in work is not processed.
        """
        # The hot loop: what stands in here is paid for every message, so there is little.
        stats = self.stats
        subscription = self.subscription
        slow = 0
        slow_s = 0.0
        count = 0
        stats.in_flight += 1
        ENVELOPE.set(transport.envelope)
        started = self.finished_at = perf_counter()
        try:
            for delivery in deliveries:
                CURRENT.set(delivery)
                if delivery.special or not self._plain:
                    await self._in_full(transport.envelope(delivery))
                else:
                    failure: BaseException | None = None
                    try:
                        if delivery.content_type in _JSON:
                            value = self._decode_json(delivery.body)
                        else:
                            value = self._decoder.decode(delivery.body, delivery.content_type)
                    except Exception as error:  # noqa: BLE001 - buried with its reason
                        await self._bury_undecodable(transport.envelope(delivery), error)
                    else:
                        try:
                            await self._call(subscription, delivery.routing, value)
                        except BaseException as error:  # noqa: BLE001 - judged in `_failure_of`
                            failure = error
                        if failure is not None:
                            await self._after_failure(transport.envelope(delivery), value, failure)
                count += 1
                now = perf_counter()
                if now - self.finished_at > QUICK_S:
                    slow += 1
                    slow_s += now - self.finished_at
                    stats.durations.add(now - self.finished_at)
                self.finished_at = now
        finally:
            stats.in_flight -= 1
            stats.consumed += count
            stats.durations.add_quick(count - slow, self.finished_at - started - slow_s)

    async def _after_failure(self, message: Message, value: object, error: BaseException) -> None:
        try:
            await self._retry(message, value, _failure_of(error))
        except Death as death:
            await self._graveyard.bury(message, death)

    async def _in_full(self, message: Message) -> None:
        group = message.headers.get(headers.REPLAY_GROUP)
        if group is not None and group != self.subscription.group:
            self.stats.skipped += 1
            return
        buried: list[Exception] = []
        _BURIED.set(buried)
        CURRENT.set(message)
        SUBSCRIPTION.set(self.subscription)
        try:
            if _expired(message, self._clock.time()):
                raise Death('expired', TimeoutError('its deadline has passed'), 0)
            answer = await self._chain(message)
        except BaseException as error:  # noqa: BLE001 - nothing may be lost
            await self._after_chain(message, _failure_of(error), buried)
        else:
            await self._answer(message, answer)

    async def _after_chain(
        self, message: Message, error: Exception, buried: list[Exception]
    ) -> None:
        if not buried:  # it never came to the handler: a middleware failed
            death = error if isinstance(error, Death) else _of_middleware(error)
            await self._graveyard.bury(message, death)
            error = death.error
        await self._answer_error(message, error)

    async def _process(self, message: Message) -> object:
        """Decode and try; what cannot be handled is buried here, then raised to the middlewares."""
        try:
            return await self._attempts(message)
        except Death as death:
            await self._graveyard.bury(message, death)
            buried = _BURIED.get()
            if buried is not None:
                buried.append(death.error)
            raise death.error from None

    async def _attempts(self, message: Message) -> object:
        try:
            value = self._decoder.decode(message.body, message.content_type)
        except DecodeError as error:
            raise Death(*_undecodable(error)) from error
        except Exception as error:
            raise Death('undecodable', error, 0) from error
        try:
            return await self._attempt(message, value)
        except Exception as error:  # noqa: BLE001 - retried, then buried
            failure = error
        return await self._retry(message, value, failure)

    async def _attempt(self, message: Message, value: object) -> object:
        timeout_s = self.subscription.policy.timeout_s
        try:
            if timeout_s is None:
                return await self._call(self.subscription, message.routing, value)
            async with asyncio.timeout(timeout_s):
                return await self._call(self.subscription, message.routing, value)
        except Exception:
            raise
        except BaseException as error:
            raise _failure_of(error) from error

    async def _retry(self, message: Message, value: object, error: Exception) -> object:
        """Try again after a first failure, until it works or is given up."""
        attempt = message.attempt
        while True:
            self.stats.failed += 1
            delay_s = self._pause_s(message, error, attempt)
            LOGGER.debug('%s: attempt %d failed, next in %.2f s', message, attempt, delay_s)
            await self._clock.sleep(delay_s)
            attempt += 1
            self.stats.retried += 1
            message = message.replace(attempt=attempt)
            CURRENT.set(message)
            try:
                return await self._attempt(message, value)
            except Exception as again:  # noqa: BLE001 - judged at the top of the loop
                error = again

    def _pause_s(self, message: Message, error: Exception, attempt: int) -> float:
        """Return how long to wait before the next attempt; raise Death if there is none."""
        _raise_if_cancelled()
        retry = self.subscription.policy.retry
        if isinstance(error, Reject):
            raise Death('rejected', error, attempt)
        if attempt >= retry.attempts:
            raise Death('retries_exhausted', error, attempt)
        if isinstance(error, RetryLater) and error.after_s is not None:
            delay_s = error.after_s
        else:
            delay_s = retry.delay_s(attempt)
        if _expired(message, self._clock.time() + delay_s):
            raise Death('expired', error, attempt)
        return delay_s

    async def _bury_undecodable(self, message: Message, error: Exception) -> None:
        failure = error if isinstance(error, DecodeError) else self._decoder.failure(error)
        await self._graveyard.bury(message, Death(*_undecodable(failure)))

    async def _answer(self, request: Message, value: object) -> None:
        if self.subscription.reply and request.reply_to is not None:
            await self._answers.answer(request, value, self.subscription)

    async def _answer_error(self, request: Message, error: Exception) -> None:
        if self.subscription.reply and request.reply_to is not None:
            await self._answers.answer_error(request, error, self.subscription)


def _undecodable(error: DecodeError) -> tuple[Any, Exception, int]:
    return ('invalid' if isinstance(error, InvalidBody) else 'undecodable', error, 0)


def _of_middleware(error: Exception) -> Death:
    if isinstance(error, DecodeError):
        return Death(*_undecodable(error))
    return Death('rejected' if isinstance(error, Reject) else 'retries_exhausted', error, 1)


def _expired(message: Message, now: float) -> bool:
    deadline = message.headers.get(headers.DEADLINE)
    if deadline is None:
        return False
    try:
        return now > float(deadline)
    except ValueError:  # not ours
        return False


def _failure_of(error: BaseException) -> Exception:
    """Return what a handler failed with; what ends this task or the process is raised on."""
    if isinstance(error, Exception):
        return error
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        raise error
    _raise_if_cancelled()
    cancelled = isinstance(error, asyncio.CancelledError)
    failure = RuntimeError(
        'something that the handler awaited was cancelled'
        if cancelled
        else f'the handler has raised {error!r}'
    )
    failure.__cause__ = error
    return failure


def _raise_if_cancelled() -> None:
    """End this task if it was told to: whatever its handler made of that is no failure of it."""
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise asyncio.CancelledError
