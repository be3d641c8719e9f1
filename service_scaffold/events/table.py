"""Subscriptions declared at module level, as aiohttp's `RouteTableDef` does for routes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from service_scaffold.events.policies import Policy
from service_scaffold.events.subscription import EventSubscription, OnMessage

F = TypeVar('F', bound=OnMessage)


class SubscriptionTable:
    """Collects subscriptions by decorator; `listener.add_subscriptions(table)` makes them.

    One table may be added to several listeners: each gets subscriptions of its own.
    """

    def __init__(self) -> None:
        self._makers: list[Callable[[], EventSubscription]] = []

    def on(
        self,
        exchange_name: str,
        routing: str,
        exchange_type: str = 'topic',
        *,
        group: str | None = None,
        reply: bool = False,
        policy: Policy | None = None,
    ) -> Callable[[F], F]:
        """Subscribe the decorated handler; the arguments are those of `EventListener.subscribe`."""

        def decorate(handler: F) -> F:
            def make() -> EventSubscription:
                return EventSubscription(
                    exchange_name,
                    routing,
                    exchange_type,
                    handler,
                    group=group,
                    reply=reply,
                    policy=policy,
                )

            make()  # what is wrong with it is said where it stands
            self._makers.append(make)
            return handler

        return decorate

    def __iter__(self) -> Iterator[EventSubscription]:
        """Yield a new subscription for each declaration."""
        return (make() for make in self._makers)

    def __len__(self) -> int:
        return len(self._makers)
