"""Where records go that cannot be handled: `{topic}.dlq`, with the same headers as for events."""

from __future__ import annotations

from typing import Any, Literal

from service_scaffold.journal.base import NewRecord
from service_scaffold.transports import headers

ORIGIN_PARTITION = 'x-origin-partition'
ORIGIN_OFFSET = 'x-origin-offset'
ORIGIN_AGENT = 'x-origin-agent'

Reason = Literal['rejected', 'retries_exhausted', 'undecodable', 'invalid']


def store_of(topic: str) -> str:
    """Return the name of the topic that takes the dead letters of another."""
    return f'{topic}.dlq'


def letter(
    agent: str,
    group: str,
    record: Any,
    reason: Reason,
    error: Exception,
    attempts: int,
    now_s: float,
) -> NewRecord:
    """Return the dead letter of a record: its own bytes, and why it could not be handled."""
    facts = {
        headers.DEATH_REASON: reason,
        headers.DEATH_ERROR: f'{type(error).__name__}: {error}'[: headers.LONGEST_ERROR],
        headers.DEATH_ATTEMPTS: str(attempts),
        headers.DEATH_TIME: f'{now_s:.3f}',
        headers.ORIGIN: record.topic,
        ORIGIN_PARTITION: str(record.partition),
        ORIGIN_OFFSET: str(record.offset),
        ORIGIN_AGENT: agent,
        headers.ORIGIN_GROUP: group,
    }
    kept = [(name, value) for name, value in record.headers if name not in facts]
    kept += [(name, value.encode()) for name, value in facts.items()]
    return NewRecord(
        store_of(record.topic), record.value, record.key, tuple(kept), timestamp=record.timestamp
    )
