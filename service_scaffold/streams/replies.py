"""Answering: what an agent yields goes back to whoever has asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from service_scaffold.journal.base import Headers, NewRecord
from service_scaffold.streams import serializers
from service_scaffold.streams.effects import Effects, Hand
from service_scaffold.streams.event import Event
from service_scaffold.transports import headers

CODEC = serializers.value_codec()
"""Of all answers: JSON, whatever the topics of the agents carry."""


def asked(event: Event) -> tuple[str, bytes] | None:
    """Return where an answer to an event goes and its correlation id, None if nobody waits."""
    found: Iterable[tuple[str, bytes]] = event.message.headers
    if not found:
        return None
    facts = dict(found)
    reply_to = facts.get(headers.REPLY_TO)
    correlation_id = facts.get(headers.CORRELATION_ID)
    if reply_to is None or correlation_id is None:
        return None
    return reply_to.decode('utf-8', 'replace'), correlation_id


def answer(hand: Hand, value: Any) -> None:
    """Send a value that a body has yielded to whoever has asked for it, if somebody has.

    Of several events in hand, the first value answers the first one, and so on. A value more than
    there are events answers nobody.

    Raises:
        EncodeError: JSON cannot express the value.
    """
    effects = hand.effects
    place = effects.yielded
    effects.yielded += 1
    in_hand = hand.in_hand
    question = asked(in_hand[place]) if place < len(in_hand) else None
    if question is not None:
        _reply(effects, question, None if value is None else CODEC.encode(value))


def text_of(error: Exception) -> str:
    """Return what an error says, short enough for a header; it may be one that cannot be shown."""
    try:
        text = str(error)
    except Exception as unspeakable:  # noqa: BLE001 - somebody's own error; its type is told
        text = f'its text raises {type(unspeakable).__name__}'
    return text[: headers.LONGEST_ERROR]


def refuse(effects: Effects, events: Iterable[Event], error: Exception) -> None:
    """Tell those who have asked that these events were given up, and why."""
    facts = (
        (headers.ERROR_TYPE, type(error).__name__.encode()),
        (headers.ERROR_MESSAGE, text_of(error).encode('utf-8', 'backslashreplace')),
    )
    for event in events:
        question = asked(event)
        if question is not None:
            _reply(effects, question, None, facts)


def _reply(
    effects: Effects, question: tuple[str, bytes], body: bytes | None, facts: Headers = ()
) -> None:
    reply_to, correlation_id = question
    # Without a timestamp it is that of the moment: the event's may be older than what the topic
    # of answers keeps.
    effects.sends.append(
        NewRecord(
            reply_to, body, correlation_id, ((headers.CORRELATION_ID, correlation_id), *facts)
        )
    )
    effects.replies |= {reply_to}
