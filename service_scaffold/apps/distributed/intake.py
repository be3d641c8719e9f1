"""Where messages come in: one receiver, and all the topics that it is subscribed to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any

from service_scaffold import events
from service_scaffold.apps.distributed import message as messages
from service_scaffold.apps.distributed import topics as names
from service_scaffold.transports.patterns import Matcher

Receive = Callable[[messages.TopicMessage[Any]], Awaitable[object]]
REQUEST: ContextVar[messages.TopicMessage[Any]] = ContextVar('request')
"""The message that is being handled; answered by publishing to its `reply_to`."""


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

    def add(self, topics: str | Iterable[str]) -> list[events.EventSubscription]:
        """Subscribe to topics; to those that are subscribed to already nothing is done.

        Raises:
            ValueError: One is no topic, or the policy does not fit.
        """
        added = []
        for topic in names.listed(topics):
            place = exchange, pattern = names.split_pattern(topic)
            if place in self._subscriptions:
                continue
            subscription = self._listener.subscribe(
                exchange,
                pattern,
                on_message=self._handle,
                group=self._group,
                reply=True,
                policy=self._policy,
            )
            self._subscriptions[place] = subscription
            self._matchers.setdefault(exchange, Matcher()).add(pattern, subscription)
            added.append(subscription)
        return added

    def remove(self, topics: str | Iterable[str] | None = None) -> None:
        """Unsubscribe from topics; None is all of them.

        Raises:
            ValueError: One is not subscribed to.
        """
        if topics is None:
            places = list(self._subscriptions)
        else:
            several = (topics,) if isinstance(topics, str) else topics
            places = [names.split_pattern(topic) for topic in several]
        for place in places:
            if place not in self._subscriptions:
                raise ValueError(f'not subscribed to {names.join(*place)!r}')
            subscription = self._subscriptions.pop(place)
            self._matchers[place[0]].remove(place[1], subscription)
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
            token = REQUEST.set(message)
            try:
                return self._answer(await self._receive(message))
            finally:
                REQUEST.reset(token)

        # The type that the listener decodes into is what a handler declares.
        handle.__annotations__ = {} if value_type is None else {'value': value_type}
        return handle

    def _answer(self, result: object) -> object:
        if result is None:
            return events.NO_REPLY
        if isinstance(result, messages.TopicMessage):
            return events.Reply(result.payload, result.content_type)
        return events.Reply(result, self._content_type)
