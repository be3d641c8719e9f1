"""Events: subscriptions that hold and publishes that tell, over any transport."""

from __future__ import annotations

from service_scaffold.errors import (
    AccessRefused,
    BindingRefused,
    BrokerUnreachable,
    CodecError,
    ConnectionLost,
    DecodeError,
    EncodeError,
    EventError,
    InvalidBody,
    NoResponder,
    PublishError,
    Reject,
    RemoteError,
    RetryLater,
    TransportError,
)
from service_scaffold.events.answers import NO_REPLY, Reply
from service_scaffold.events.current import current_message, current_subscription
from service_scaffold.events.feature import get_listener, get_publisher, setup
from service_scaffold.events.listener import EventListener
from service_scaffold.events.middlewares import use
from service_scaffold.events.policies import Policy, Retry
from service_scaffold.events.publisher import EventPublisher
from service_scaffold.events.stats import HANDLER_BUCKETS_S
from service_scaffold.events.subscription import EventSubscription
from service_scaffold.events.table import SubscriptionTable
from service_scaffold.message import Handler, Message, Middleware

__all__ = [
    'HANDLER_BUCKETS_S',
    'NO_REPLY',
    'AccessRefused',
    'BindingRefused',
    'BrokerUnreachable',
    'CodecError',
    'ConnectionLost',
    'DecodeError',
    'EncodeError',
    'EventError',
    'EventListener',
    'EventPublisher',
    'EventSubscription',
    'Handler',
    'InvalidBody',
    'Message',
    'Middleware',
    'NoResponder',
    'Policy',
    'PublishError',
    'Reject',
    'RemoteError',
    'Reply',
    'Retry',
    'RetryLater',
    'SubscriptionTable',
    'TransportError',
    'current_message',
    'current_subscription',
    'get_listener',
    'get_publisher',
    'setup',
    'use',
]
