"""For the tests of services: a started app, the memory bus in your hands, a clock to move."""

from __future__ import annotations

from service_scaffold.clock import ManualClock
from service_scaffold.testing.harness import Running, memory_bus, running
from service_scaffold.transports.memory_bus import MemoryBus

__all__ = ['ManualClock', 'MemoryBus', 'Running', 'memory_bus', 'running']
