"""The envelope of the message that is being handled."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from service_scaffold.events.subscription import EventSubscription
from service_scaffold.message import Message
from service_scaffold.transports.base import Delivery

# The delivery itself is kept, and its envelope only built when somebody asks.
CURRENT: ContextVar[Delivery | Message | None] = ContextVar('current_message', default=None)
ENVELOPE: ContextVar[Callable[[Delivery], Message] | None] = ContextVar('envelope', default=None)
# Only set where there are middlewares: a handler is given its subscription.
SUBSCRIPTION: ContextVar[EventSubscription] = ContextVar('current_subscription')


def current_subscription() -> EventSubscription:
    """Return the subscription whose message a consume middleware was given.

    Raises:
        LookupError: Not called from inside a consume middleware.
    """
    return SUBSCRIPTION.get()


def current_message() -> Message:
    """Return the envelope of the message that the calling handler was given.

    Raises:
        LookupError: Not called from inside a handler.
    """
    current = CURRENT.get()
    if current is None:
        raise LookupError('No message is being handled here; call it from inside a handler')
    if isinstance(current, Message):
        return current
    envelope = ENVELOPE.get()
    assert envelope is not None, 'set with CURRENT'
    message = envelope(current)
    CURRENT.set(message)
    return message
