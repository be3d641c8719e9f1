"""PUBLISH packets as deliveries and envelopes, and envelopes as what is published."""

from __future__ import annotations

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.message import Message, new_message_id
from service_scaffold.transports.base import Binding, Delivery
from service_scaffold.transports.headers import KEY, MESSAGE_ID, ORIGIN_ROUTING, SPECIAL, TIMESTAMP
from service_scaffold.transports.mqtt_outbox import Outgoing
from service_scaffold.transports.mqtt_packets import (
    CARRIERS,
    Incoming,
    encode_properties,
)
from service_scaffold.transports.mqtt_topics import (
    DEAD_LETTERS,
    dead_letter_topic,
    is_safe,
    routing_of,
    topic_of,
)


def delivery_of(incoming: Incoming, binding: Binding | None = None) -> Delivery:
    """Return a delivery of `incoming`; a dead letter has the routing key of its origin."""
    exchange, routing = routing_of(incoming.topic)
    headers = incoming.headers
    if exchange.endswith(DEAD_LETTERS):
        routing = headers.get(ORIGIN_ROUTING, routing)
    special = incoming.response_topic is not None
    key = routing
    if headers:
        special = special or not SPECIAL.isdisjoint(headers)
        key = headers.get(KEY, routing)
    return Delivery(
        exchange=exchange,
        routing=routing,
        body=incoming.body,
        content_type=incoming.content_type,
        key=key,
        special=special,
        raw=incoming,
        binding=binding,
    )


def is_removal(incoming: Incoming) -> bool:
    """Tell whether it only says that a dead letter is stored no longer."""
    exchange = incoming.topic.partition('/')[0]
    return (
        not incoming.body
        and exchange.endswith(DEAD_LETTERS)
        and ORIGIN_ROUTING not in incoming.headers
    )


def envelope_of(delivery: Delivery, clock: Clock) -> Message:
    """Return the envelope of a delivery that `delivery_of` has made."""
    incoming: Incoming = delivery.raw
    headers = incoming.headers
    if incoming.message_id is None:
        incoming.message_id = headers.get(MESSAGE_ID) or new_message_id()
    correlation = incoming.correlation_data
    return Message(
        delivery.exchange,
        delivery.routing,
        incoming.body,
        key=headers.get(KEY, delivery.routing),
        headers={name: headers[name] for name in headers if name not in CARRIERS},
        message_id=incoming.message_id,
        correlation_id=None
        if correlation is None
        else correlation.decode(errors='surrogateescape'),
        reply_to=incoming.response_topic,
        content_type=incoming.content_type,
        timestamp=_timestamp(headers.get(TIMESTAMP), clock),
        redelivered=incoming.duplicate,
        exchange_type=delivery.binding.exchange_type if delivery.binding else 'topic',
        retained=incoming.retained,
    )


def _timestamp(text: str | None, clock: Clock) -> float:
    try:
        return clock.time() if text is None else float(text)
    except ValueError:
        return clock.time()


def event(message: Message) -> Outgoing:
    """Return what is published for an event."""
    topic = topic_of(message.exchange, message.routing)
    return topic, message.body, encode_properties(message), False


def dead_letter(message: Message) -> Outgoing:
    """Return what is retained for a dead letter, whose exchange is its origin."""
    routing = message.headers.get(ORIGIN_ROUTING, message.routing)
    topic = dead_letter_topic(message.exchange, routing, message.message_id)
    if ORIGIN_ROUTING not in message.headers:
        message = message.replace(headers={**message.headers, ORIGIN_ROUTING: routing})
    # A reader of the store must not take an unanswered request for one that it should answer.
    letter = message.replace(reply_to=None, correlation_id=None)
    return topic, message.body, encode_properties(letter), True


def answer(message: Message) -> Outgoing:
    """Return what is published for an answer, whose `reply_to` is where it goes.

    Raises:
        PublishError: That is no topic.
    """
    topic = message.reply_to or ''
    if not topic or '+' in topic or '#' in topic or not is_safe(topic):
        raise errors.PublishError(f'Not a response topic: {topic!r}')
    return topic, message.body, encode_properties(message.replace(reply_to=None)), False
