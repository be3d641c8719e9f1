"""Streams: agents, topics and tables over the journal."""

from __future__ import annotations

from service_scaffold.streams.decision import Decision
from service_scaffold.streams.effects import current_event
from service_scaffold.streams.feature import get_streams, setup
from service_scaffold.streams.records import Record
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology

__all__ = [
    'Decision',
    'Record',
    'StreamSettings',
    'Topology',
    'current_event',
    'get_streams',
    'setup',
]
