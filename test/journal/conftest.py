"""A journal in memory for each test."""

from __future__ import annotations

import pytest

from service_scaffold.clock import ManualClock
from service_scaffold.journal.memory import MemoryJournal
from service_scaffold.journal.memory_broker import MemoryBroker


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start=1000.0)


@pytest.fixture
def broker(clock) -> MemoryBroker:
    return MemoryBroker('test', clock)


@pytest.fixture
async def journal(broker):
    """A connected journal."""
    journal = MemoryJournal(broker)
    await journal.connect()
    yield journal
    await journal.close()
