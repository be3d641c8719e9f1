"""One intake in use: what is bound there, and what the broker refuses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from service_scaffold.events.subscription import EventSubscription
from service_scaffold.transports.base import Binding, Intake, Transport

LOGGER = logging.getLogger(__name__)

BIND_S = 0.01  # a binding more may take this much longer


@dataclass(eq=False)
class Session:
    """One intake in use.

    Attributes:
        intake: Where deliveries come from.
        transport: Whose intake it is.
        ended: Done, with the reason, when the worker cannot go on with it.
        bound: What the broker has confirmed.
        refused: What it has refused, with the reason.
    """

    intake: Intake
    transport: Transport
    ended: asyncio.Future[Exception]
    bound: set[Binding] = field(default_factory=set)
    refused: dict[Binding, Exception] = field(default_factory=dict)

    async def reconcile(self, wanted: set[Binding], label: object) -> None:
        """Make the intake's bindings those that are wanted."""
        surplus = self.bound - wanted
        missing = wanted - self.bound
        limit_s = self.transport.settings.connect_timeout_s
        async with asyncio.timeout(limit_s + BIND_S * (len(missing) + len(surplus))):
            if surplus:
                await self.intake.unbind(list(surplus))
                self.bound -= surplus
            if missing:
                refused = await self.intake.bind(list(missing))
                for binding, error in refused.items():
                    if binding not in self.refused:
                        LOGGER.warning('%s: %s is refused: %s', label, binding, text_of(error))
                self.refused = dict(refused)
                self.bound |= missing - set(refused)
            else:
                self.refused = {}

    def announce(self, subscriptions: Iterable[EventSubscription]) -> None:
        """Tell the subscriptions what became of their bindings."""
        for subscription in subscriptions:
            error = self.refused.get(subscription.binding)
            if error is not None:
                subscription.mark('failed', error)
            elif subscription.binding in self.bound and subscription.state in (
                'waiting',
                'failed',
            ):
                subscription.mark('active', until=self.transport.lost)


def text_of(error: BaseException) -> str:
    """Return an error's text, or its name when it says nothing."""
    return str(error) or type(error).__name__
