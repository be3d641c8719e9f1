"""Fixtures of the tests of streams: a log that several workers share."""

from __future__ import annotations

import pytest

from service_scaffold.clock import SystemClock
from service_scaffold.journal.kafka import KafkaJournal
from service_scaffold.journal.kafka_client import Access
from service_scaffold.journal.memory import MemoryJournal
from service_scaffold.journal.memory_broker import MemoryBroker
from test.streams.several import SharedLog


@pytest.fixture(params=['memory', 'kafka'])
def any_log(request: pytest.FixtureRequest, unique: str) -> SharedLog:
    """A log in memory, and a real Kafka; with an application id of the test's own."""
    if request.param == 'memory':
        broker = MemoryBroker('', SystemClock())
        return SharedLog(unique, lambda: MemoryJournal(broker, who=unique))
    kafka = request.getfixturevalue('kafka')
    access = Access([(kafka.host, kafka.port)], client_id=unique)
    return SharedLog(unique, lambda: KafkaJournal(access))
