"""Where messages come in: one receiver, and all the topics that it is subscribed to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from service_scaffold import codecs, events
from service_scaffold.apps.distributed import message as messages
from service_scaffold.apps.distributed import topics as names
from service_scaffold.transports.patterns import Matcher

Receive = Callable[[messages.TopicMessage[Any]], Awaitable[object]]


class TopicIntake:
    """Gives what comes on some topics to one receiver; a message that several match comes once.

    Args:
        listener: Whom to subscribe with.
        receive: What is called; its result is the answer, None is none.
        value_type: What bodies are decoded into; None is whatever they are.
        group: The group of the subscriptions; None makes live views.
        policy: That of the subscriptions.
        content_type: What answers are encoded as; None is JSON.
    """

    def __init__(
        self,
        listener: events.EventListener,
        receive: Receive,
        *,
        value_type: Any = None,
        group: str | None = None,
        policy: events.Policy | None = None,
        content_type: str | None = None,
    ) -> None:
        self._listener = listener
        self._receive = receive
        self._group = group
        self._policy = policy
        self._content_type = content_type
        self._subscriptions: dict[tuple[str, str], events.EventSubscription] = {}
        self._matchers: dict[str, Matcher[events.EventSubscription]] = {}
        self._handle = self._typed(value_type)

    @property
    def subscriptions(self) -> tuple[events.EventSubscription, ...]:
        """What is subscribed to now."""
        return tuple(self._subscriptions.values())

    @property
    def places(self) -> tuple[tuple[str, str], ...]:
        """Exchange and pattern of each."""
        return tuple(self._subscriptions)

    def add(self, topics: str | Iterable[str]) -> list[events.EventSubscription]:
        """Subscribe to topics, and return their subscriptions, those that are there already, too.

        Raises:
            ValueError: One is no topic, or the policy does not fit.
        """
        places = [names.split_pattern(topic) for topic in names.listed(topics)]
        for place in places:
            if place not in self._subscriptions:
                self._subscribe(*place)
        return [self._subscriptions[place] for place in places]

    def _subscribe(self, exchange: str, pattern: str) -> None:
        subscription = self._listener.subscribe(
            exchange,
            pattern,
            on_message=self._handle,
            group=self._group,
            reply=True,
            policy=self._policy,
        )
        self._subscriptions[exchange, pattern] = subscription
        self._matchers.setdefault(exchange, Matcher()).add(pattern, subscription)

    def remove(self, places: Iterable[tuple[str, str]]) -> None:
        """Unsubscribe from places; those that are not subscribed to are passed over."""
        for exchange, pattern in places:
            subscription = self._subscriptions.pop((exchange, pattern), None)
            if subscription is not None:
                self._matchers[exchange].remove(pattern, subscription)
                subscription.unsubscribe()

    def wants(self, exchange: str, routing: str) -> bool:
        """Tell whether a message of that routing comes here."""
        matcher = self._matchers.get(exchange)
        return matcher is not None and bool(matcher.match(routing))

    def serves(self, subscription: events.EventSubscription, routing: str) -> bool:
        """Tell whether of all that match it is this subscription that has the message handled."""
        matcher = self._matchers.get(subscription.exchange_name)
        found = () if matcher is None else matcher.match(routing)
        return not found or found[0] is subscription

    def _typed(self, value_type: Any) -> Callable[..., Awaitable[object]]:
        async def handle(
            subscription: events.EventSubscription, routing: str, value: Any
        ) -> object:
            if not self.serves(subscription, routing):
                return events.NO_REPLY
            message = messages.received(events.current_message(), value)
            return self._answer(await self._receive(message))

        # The type that the listener decodes into is what a handler declares.
        handle.__annotations__ = {} if value_type is None else {'value': value_type}
        return handle

    def _answer(self, result: object) -> object:
        if result is None:
            return events.NO_REPLY
        if isinstance(result, messages.TopicMessage):
            return events.Reply(result.payload, result.content_type or codecs.JSON)
        return events.Reply(result, self._content_type)
