"""What handling one event has done: all of it counts, at once, or none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

from service_scaffold.journal.base import NewRecord
from service_scaffold.streams.event import Event
from service_scaffold.streams.state import Changes, PartitionState

NO_REPLIES: frozenset[str] = frozenset()


class Effects:
    """Writes and sends of the events that a lane has in hand.

    They become visible to others when the lane has finished with the events; those of a failed
    attempt are dropped.

    Attributes:
        writes: Of each table's partition.
        sends: Records to be appended, in order.
        first: To be called and awaited before the events are finished; they may write and send.
        then: Called, once each, when they have been applied.
        yielded: How many values the body has yielded.
        replies: Topics of those among `sends` that somebody waits for.
        floors: Of tables that go by time: the stream time as of which they were written.
    """

    __slots__ = ('first', 'floors', 'replies', 'sends', 'then', 'writes', 'yielded')

    def __init__(self) -> None:
        self.writes: dict[PartitionState, Changes] = {}
        self.sends: list[NewRecord] = []
        self.first: list[Callable[[], Awaitable[None]]] = []
        self.then: list[Callable[[], None]] = []
        self.yielded = 0
        self.replies: frozenset[str] = NO_REPLIES
        self.floors: dict[PartitionState, int] = {}

    def __bool__(self) -> bool:
        return bool(self.writes or self.sends or self.then or self.first)

    def clear(self) -> None:
        """Begin again; that costs less than a new one, and there is one for each event."""
        self.writes.clear()
        self.yielded = 0
        if self.sends:
            self.sends.clear()
            self.replies = NO_REPLIES
        if self.first:
            self.first.clear()
        if self.then:
            self.then.clear()
        if self.floors:
            self.floors.clear()

    async def complete(self) -> None:
        """Do what is to be done before the events are finished."""
        while self.first:
            await self.first.pop(0)()


class Unit(Protocol):
    """What a lane works for: a partition, or a channel in memory."""

    @property
    def held(self) -> bool:
        """Whether nothing new may begin: a rebalance is under way."""

    def state(self, table: Any) -> PartitionState:
        """Return this partition of a table."""

    def apply(self, effects: Effects) -> None:
        """Let the effects of finished events count."""

    def stop(self, error: Exception) -> None:
        """End the application: an error hook has decided so."""


class Hand(Protocol):
    """Who handles events, seen from what they touch.

    Attributes:
        unit: What they belong to.
        current: The events in hand.
        effects: What handling them has done so far.
    """

    unit: Unit
    current: list[Event]
    effects: Effects

    @property
    def event(self) -> Event | None:
        """The event in hand: of several the last one."""

    @property
    def in_hand(self) -> Sequence[Event]:
        """The events in hand, also those that are acknowledged by hand."""

    @property
    def effective(self) -> bool:
        """Whether what is sent and written now belongs to an event."""


LANE: ContextVar[Hand | None] = ContextVar('service_scaffold_lane', default=None)
"""The lane in whose task the caller runs; set once per lane, so that it costs nothing per event."""

DRY: ContextVar[bool] = ContextVar('service_scaffold_dry', default=False)
"""Whether what runs here is only tried, before the start: what it sends goes nowhere."""


def current_event() -> Event:
    """Return the event that is being handled: of a batch the last one.

    Raises:
        LookupError: Nothing is being handled here.
    """
    lane = LANE.get()
    event = None if lane is None else lane.event
    if event is None:
        raise LookupError('No event is being handled here')
    return event


def sent_at_ms(timestamp: float | None) -> int | None:
    """Return the time, in milliseconds, of what is sent now, to a topic or to a channel.

    Args:
        timestamp: Epoch seconds that the sender has named; they win.

    Returns:
        None outside of events: it is the moment at which the log takes it.
    """
    if timestamp is not None:
        return round(timestamp * 1000)
    lane = LANE.get()
    event = None if lane is None else lane.event
    return None if event is None else event.timestamp_ms
