"""The memory transport keeps what every transport must."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from service_scaffold.journal.memory_broker import discard_broker
from service_scaffold.testing import conformance
from service_scaffold.transports import memory


class MemoryControl(conformance.BrokerControl):
    """A bus in this process, and its own faults."""

    def __init__(self, name: str) -> None:
        self.url = f'memory://{name}'
        self._bus = memory.broker(self.url)

    def stop(self) -> None:
        self._bus.down()

    def half_open(self) -> None:
        self._bus.half_open()

    def start(self) -> None:
        self._bus.up()


class TestMemory(conformance.Suite):
    """Several applications, one bus."""

    skips: ClassVar[dict[str, str]] = {
        'test_a_new_group_can_begin_with_the_first_message': 'a queue keeps no history',
        'test_order_per_key_holds_over_the_whole_group': 'members of a group compete',
    }

    @pytest.fixture
    def broker(self, unique: str) -> Iterator[MemoryControl]:
        """A bus that no other test uses."""
        yield MemoryControl(unique)
        discard_broker(unique)


class TestMemoryParts(conformance.PartsSuite):
    """Latest values, and who is there."""

    @pytest.fixture
    def broker(self, unique: str) -> Iterator[MemoryControl]:
        """A bus that no other test uses."""
        yield MemoryControl(unique)
        discard_broker(unique)
