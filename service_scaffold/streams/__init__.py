"""Streams: agents, topics and tables over the journal."""

from __future__ import annotations

from service_scaffold.errors import (
    CoPartitionError,
    NotOwned,
    OutsideAgent,
    StoreDamaged,
    StoreError,
    StreamError,
)
from service_scaffold.streams.app_type import AppT
from service_scaffold.streams.decision import Decision
from service_scaffold.streams.effects import current_event
from service_scaffold.streams.event import Event
from service_scaffold.streams.feature import add_arguments, get_streams, setup
from service_scaffold.streams.pages import View, Web
from service_scaffold.streams.records import Record
from service_scaffold.streams.routing import table_route, topic_route
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.window_plan import Window
from service_scaffold.streams.windows import (
    HoppingWindow,
    SessionWindow,
    SlidingWindow,
    TumblingWindow,
)

__all__ = [
    'AppT',
    'CoPartitionError',
    'Decision',
    'Event',
    'HoppingWindow',
    'NotOwned',
    'OutsideAgent',
    'Record',
    'SessionWindow',
    'SlidingWindow',
    'StoreDamaged',
    'StoreError',
    'StreamError',
    'StreamSettings',
    'Topology',
    'TumblingWindow',
    'View',
    'Web',
    'Window',
    'add_arguments',
    'current_event',
    'get_streams',
    'setup',
    'table_route',
    'topic_route',
]
