"""Where records go that cannot be handled: `{topic}.dlq`, with the same headers as for events."""

from __future__ import annotations

from typing import Any, Literal

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.journal.base import NewRecord
from service_scaffold.journal.naming import check_topic_name
from service_scaffold.streams import replies
from service_scaffold.streams.effects import Effects
from service_scaffold.streams.event import Event
from service_scaffold.streams.refusals import Refusals
from service_scaffold.transports import headers

ORIGIN_PARTITION = 'x-origin-partition'
ORIGIN_OFFSET = 'x-origin-offset'
ORIGIN_AGENT = 'x-origin-agent'

Reason = Literal['rejected', 'retries_exhausted', 'undecodable', 'invalid']


def store_of(topic: str) -> str:
    """Return the name of the topic that takes the dead letters of another."""
    return f'{topic}.dlq'


def check_store(topic: str, agent: str) -> None:
    """Make sure that what an agent reads can have dead letters.

    Raises:
        ConfigError: The name of their topic would be none.
    """
    check_topic_name(
        store_of(topic),
        f'the dead letters of {topic!r}, which agent {agent} reads, would go there; give that one'
        ' a shorter name, of these characters',
    )


class Letters:
    """Writes the dead letters of one agent.

    Args:
        agent: Its name.
        group: The application's id.
        clock: What says when.
        refusals: What the log has not taken: a letter of that leaves the value out.
    """

    def __init__(
        self, agent: str, group: str, clock: Clock, refusals: Refusals | None = None
    ) -> None:
        self._refusals = Refusals() if refusals is None else refusals
        self._agent = agent
        self._group = group
        self._clock = clock

    def bury(
        self, effects: Effects, event: Event, reason: Reason, error: Exception, attempts: int
    ) -> None:
        """Send the letter of an event, and tell whoever has asked that it was given up."""
        effects.sends.append(self.letter(event.message, reason, error, attempts))
        replies.refuse(effects, [event], error)

    def bury_undecodable(self, effects: Effects, event: Event, error: Exception) -> None:
        """Do so for a record that is not of its topic's type."""
        invalid = isinstance(error, errors.InvalidBody)
        self.bury(effects, event, 'invalid' if invalid else 'undecodable', error, 1)

    def letter(self, record: Any, reason: Reason, error: Exception, attempts: int) -> NewRecord:
        """Return a record's letter: its own bytes, and why it could not be handled."""
        facts = {
            headers.DEATH_REASON: reason,
            headers.DEATH_ERROR: f'{type(error).__name__}: {replies.text_of(error)}',
            headers.DEATH_ATTEMPTS: str(attempts),
            headers.DEATH_TIME: f'{self._clock.time():.3f}',
            headers.ORIGIN: record.topic,
            ORIGIN_PARTITION: str(record.partition),
            ORIGIN_OFFSET: str(record.offset),
            ORIGIN_AGENT: self._agent,
            headers.ORIGIN_GROUP: self._group,
        }
        kept = [(name, value) for name, value in record.headers if name not in facts]
        kept += [(name, value.encode('utf-8', 'backslashreplace')) for name, value in facts.items()]
        name = store_of(record.topic)
        return self._refusals.fitting(
            NewRecord(name, record.value, record.key, tuple(kept), timestamp=record.timestamp)
        )
