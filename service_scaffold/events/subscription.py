"""One subscription: where the messages come from, who handles them, and how."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from service_scaffold.events.policies import LIVE_POLICY, Policy
from service_scaffold.events.stats import ConsumeStats
from service_scaffold.transports import patterns
from service_scaffold.transports.base import Binding

LOGGER = logging.getLogger(__name__)

State = Literal['waiting', 'active', 'failed', 'dlq_unavailable', 'closed']
OnMessage = Callable[['EventSubscription', str, Any], Awaitable[object]]


async def log_message(subscription: EventSubscription, key: str, message: object) -> None:
    """Handle a message by logging that it came: what a subscription without a handler does."""
    LOGGER.info('%s received a message: routing=%s', subscription, key)
    LOGGER.debug('%s received: routing=%s message=%r', subscription, key, message)


class EventSubscription:
    """What `EventListener.subscribe` returns.

    Attributes:
        exchange_name: The exchange (Kafka: topic).
        routing: The routing pattern.
        exchange_type: `topic`, `direct` or `fanout`.
        group: Whose instances share the messages; None is a live view.
        reply: Whether requests are answered with what the handler returns.
        policy: How messages are handled.
        last_error: Why it is not active; kept after recovery.
        stats: What became of its messages.
        letters_waiting: How many messages the dead-letter store has not taken yet.
    """

    def __init__(
        self,
        exchange_name: str,
        routing: str,
        exchange_type: str = 'topic',
        on_message: OnMessage | None = None,
        *,
        group: str | None = None,
        reply: bool = False,
        policy: Policy | None = None,
    ) -> None:
        patterns.check_exchange(exchange_name, exchange_type)
        patterns.check_pattern(routing, exchange_type)
        if not isinstance(policy, Policy | None):
            raise TypeError(f'policy must be an events.Policy, got {policy!r}')
        if group is not None:
            patterns.check_group(group)
        elif policy is not None and policy.dead_letter:
            raise ValueError(
                'dead_letter=True needs a group: a live view settles nothing that could be kept'
            )
        self.exchange_name = exchange_name
        self.routing = routing
        self.exchange_type = exchange_type
        self.group = group
        self.reply = reply
        default = LIVE_POLICY if group is None else Policy()
        self.policy = default if policy is None else policy
        self.last_error: Exception | None = None
        self.stats = ConsumeStats()
        self.letters_waiting = 0
        self.binding = Binding(exchange_name, exchange_type, routing)
        self._on_message: OnMessage = on_message or log_message
        self._state: State = 'waiting'
        self._until: asyncio.Future[Any] | None = None
        self._changed = asyncio.Event()
        self.on_swap: Callable[[], None] = _nothing
        self.on_unsubscribe: Callable[[], None] = _nothing

    @property
    def on_message(self) -> OnMessage:
        """The handler; a new one is used from the next message on."""
        return self._on_message

    @on_message.setter
    def on_message(self, handler: OnMessage | None) -> None:
        before, self._on_message = self._on_message, handler or log_message
        try:
            self.on_swap()
        except TypeError:  # it cannot take our messages: the one before stays
            self._on_message = before
            raise

    @property
    def keeps_dead_letters(self) -> bool:
        """Whether messages that cannot be handled go to the dead-letter store."""
        return self.group is not None and self.policy.dead_letter is not False

    @property
    def state(self) -> State:
        """`waiting` for the broker, `active`, `failed`, `dlq_unavailable` or `closed`."""
        if self._state == 'active' and self._until is not None and self._until.done():
            return 'waiting'  # lost a moment ago, and about to be marked so
        if self._state == 'active' and self.letters_waiting:
            return 'dlq_unavailable'
        return self._state

    @property
    def active(self) -> bool:
        """Whether what is published now will arrive."""
        return self.state == 'active'

    def mark(
        self,
        state: State,
        error: Exception | None = None,
        *,
        until: asyncio.Future[Any] | None = None,
    ) -> None:
        """Change the state, an active one for as long as `until` is not done.

        Only the listener does that.
        """
        if self._state == 'closed':
            return
        if error is not None:
            self.last_error = error
        self._state = state
        self._until = until or self._until
        self._tell()

    def letter_waits(self) -> None:
        """Count a message that the dead-letter store does not take: `dlq_unavailable`.

        It is so over reconnects and beside letters that are taken, until `letter_gone`.
        """
        self.letters_waiting += 1
        self._tell()

    def letter_gone(self) -> None:
        """Take back one `letter_waits`."""
        self.letters_waiting -= 1
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_active(self, timeout_s: float = 10.0) -> None:
        """Wait until it is active.

        Raises:
            TimeoutError: It was not within `timeout_s` seconds; the message says why.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not self.active:
                    await self._changed.wait()
        except TimeoutError:
            reason = f': {self.last_error}' if self.last_error else ''
            raise TimeoutError(
                f'{self} is still {self.state} after {timeout_s:g} s{reason}'
            ) from self.last_error

    def unsubscribe(self) -> None:
        """End it. Handlers that run finish; a group's queue stays, with what is in it."""
        if self._state != 'closed':
            self.mark('closed')
            self.on_unsubscribe()

    def __str__(self) -> str:
        name = f'{self.exchange_name}/{self.routing}'
        return f'<subscription {name} group={self.group}>' if self.group else f'<live view {name}>'

    __repr__ = __str__


def _nothing() -> None:
    """Stand in until a listener takes the subscription."""
