"""The listener: subscriptions that hold, whatever the broker does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping

from aiohttp import web

from service_scaffold import codecs, errors, features, transports
from service_scaffold.events import middlewares
from service_scaffold.events.answers import Answers
from service_scaffold.events.bus import BusFeature
from service_scaffold.events.consumer import Consumer, Surroundings
from service_scaffold.events.consumers import Consumers
from service_scaffold.events.policies import Policy
from service_scaffold.events.subscription import EventSubscription, OnMessage
from service_scaffold.message import Message


class EventListener(BusFeature):
    """Subscribes to exchanges, and restores its subscriptions whenever the broker comes back.

    It never raises for the broker's sake: without one it keeps trying, says so once in the log,
    and in its health.

    Args:
        app: The application.
        url: Another event bus than `--eventbus-url`.
    """

    def __init__(self, app: web.Application, url: str | None = None) -> None:
        super().__init__(app, 'listener', url)
        self._subscriptions: dict[EventSubscription, None] = {}  # in order
        self._stopping = False
        surroundings = Surroundings(
            spawn=self._spawn,
            clock=self._clock,
            middlewares=lambda: middlewares.of(app).consume,
        )
        self._answers = Answers(surroundings.outlet, self._clock)
        self._consumers = Consumers(surroundings)
        self._connect(self._consumers.serve, self._explain)
        middlewares.of(app).on_change.append(self._consumers.compile)

    def _explain(self, error: Exception) -> None:
        """Let subscriptions that wait say what for."""
        for subscription in self._subscriptions:
            if subscription.state == 'waiting':
                subscription.mark('waiting', error)

    def __repr__(self) -> str:
        return f'<EventListener {self._settings.address} {len(self._subscriptions)} subscriptions>'

    @property
    def subscriptions(self) -> tuple[EventSubscription, ...]:
        """The subscriptions that have not been closed, in order."""
        return tuple(self._subscriptions)

    @property
    def consumers(self) -> Mapping[tuple[str, str], Consumer]:
        """The consumers by exchange and group; all live views are one, under two empty names."""
        return self._consumers.by_name

    # Subscribing

    def subscribe(
        self,
        exchange_name: str,
        routing: str,
        exchange_type: str = 'topic',
        on_message: OnMessage | None = None,
        *,
        group: str | None = None,
        reply: bool = False,
        policy: Policy | None = None,
    ) -> EventSubscription:
        """Have `on_message(subscription, key, message)` called for each matching event.

        May be called at any time: before the start, while the broker is away, while connected.

        Args:
            exchange_name: The exchange (Kafka: topic); declared if it is missing.
            routing: Pattern: words by dots, `*` is one word, `#` zero or more.
            exchange_type: `topic`; `direct` takes `routing` literally, `fanout` ignores it.
            on_message: The handler; the annotation of its third parameter is the type that the
                body is decoded into. None logs that a message came.
            group: None is a live view: every instance sees every message, at most once. With a
                name, all instances of the group share the messages, at least once.
            reply: Answer requests with what the handler returns or raises.
            policy: Concurrency, retries, dead letters.

        Raises:
            ValueError: A name, a pattern or the policy is not allowed; or the same group has
                the exchange under another type.
            TypeError: The handler does not take three arguments, or declares a type that
                cannot be decoded into.
        """
        subscription = EventSubscription(
            exchange_name,
            routing,
            exchange_type,
            on_message,
            group=group,
            reply=reply,
            policy=policy,
        )
        return self._add(subscription)

    def add_subscriptions(
        self, subscriptions: Iterable[EventSubscription]
    ) -> list[EventSubscription]:
        """Take the subscriptions of a `SubscriptionTable`."""
        return [self._add(subscription) for subscription in subscriptions]

    def _add(self, subscription: EventSubscription) -> EventSubscription:
        if self._stopping:
            raise RuntimeError(f'{self!r} has stopped; no subscription can be added')
        self._consumers.add(subscription)
        self._subscriptions[subscription] = None
        subscription.on_unsubscribe = lambda: self._remove(subscription)
        if self._running:
            self._connection.demand()
        return subscription

    async def reply(
        self, request: Message, value: object, *, content_type: str | None = None
    ) -> None:
        """Answer a request now; its handler then returns `NO_REPLY`.

        Only a request that this listener has received can be answered: the first answer wins.

        Raises:
            ValueError: Nobody waits for an answer to that message.
            EncodeError: The content type cannot express the value.
            PublishError: The answer was not sent, or not confirmed in time.
        """
        if request.reply_to is None:
            raise ValueError(f'{request} is no request: nobody waits for an answer')
        body, content_type = codecs.encode(value, content_type)
        await self._answers.send(request, body, content_type, {})

    def _remove(self, subscription: EventSubscription) -> None:
        self._subscriptions.pop(subscription, None)
        self._consumers.remove(subscription)

    # Life

    async def startup(self, app: web.Application) -> None:
        """Begin connecting, if there is anything to subscribe to; does not wait for the broker.

        Raises:
            ConfigError: The URL's scheme or an option in it is unknown, or the package of the
                transport is not installed.
            BrokerUnreachable: With `--eventbus-required start`: no bus within
                `--connect-timeout-s`.
        """
        self._configure()
        if not self._stopping:
            self._connect(self._consumers.serve, self._explain)
        if self._subscriptions:
            # Made for its ConfigError only, with which every later attempt would fail, too. What
            # may pass (a certificate that is not there yet) is for the connection to report.
            with contextlib.suppress(errors.TransportError):
                transports.open_transport(self._settings)
        if self._stopping:  # started again after a stop
            self._stopping = False
            self._connect(self._consumers.serve, self._explain)
            self._consumers.renew(self._subscriptions)
        if self._required == 'start':
            await self._require_bus()
        self._running = True
        if self._subscriptions:
            self._connection.demand()

    async def _require_bus(self) -> None:
        error: Exception | None = None
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                while True:
                    try:
                        await self._connection.obtain()
                    except errors.TransportError as failure:
                        error = failure
                        await asyncio.sleep(0.1)
                    else:
                        return
        except TimeoutError:
            await self._connection.stop()
            self._connect(self._consumers.serve, self._explain)
            raise errors.BrokerUnreachable(
                f'--eventbus-required start: no event bus at {self._settings.address} within'
                f' {self._settings.connect_timeout_s:g} s: {error or "no answer"}'
            ) from error

    async def drain(self, app: web.Application) -> None:
        """Take nothing more in, hand back what has not begun, and let running handlers finish.

        Cancelled when the time is over: then handlers are cancelled, and what they had is not
        settled.
        """
        self._stopping = True
        await self._consumers.drain()

    async def shutdown(self, app: web.Application) -> None:
        """End the connection. What was not drained is cancelled, and not settled."""
        self._stopping = True
        self._consumers.cancel()
        await self._connection.stop()
        self._running = False

    # Health

    def health(self) -> features.Health:
        """Report the connection and the subscriptions."""
        if not self._subscriptions and not (self._required == 'start' and self._running):
            return features.Health(ok=True, detail=self._detail({}))
        bad = {
            str(subscription): f'{subscription.state}: {subscription.last_error or "no broker"}'
            for subscription in self._subscriptions
            if not subscription.active
        }
        waiting = any(subscription.state == 'waiting' for subscription in self._subscriptions)
        ready = self._required == 'no' or (self.connected and not waiting)
        return features.Health(ok=self.connected and not bad, ready=ready, detail=self._detail(bad))

    def _detail(self, bad: dict[str, str]) -> dict[str, object]:
        detail = self._bus_detail()
        detail['subscriptions'] = len(self._subscriptions)
        detail['active'] = sum(subscription.active for subscription in self._subscriptions)
        if bad:
            detail['not_active'] = dict(list(bad.items())[:20])
        return detail
