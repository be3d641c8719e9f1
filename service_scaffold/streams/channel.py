"""A channel: a topic that never leaves the process, and holds objects instead of bytes."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from service_scaffold import codecs, errors
from service_scaffold.clock import Clock
from service_scaffold.journal.base import Headers
from service_scaffold.streams import serializers
from service_scaffold.streams.bell import Waiters
from service_scaffold.streams.effects import DRY, LANE, sent_at_ms
from service_scaffold.streams.event import OWN_KEY, Acks, Event
from service_scaffold.streams.loose import Iterated, Loose
from service_scaffold.streams.steps import Kind
from service_scaffold.streams.stream import Stream
from service_scaffold.streams.topic import Outlet, Topic, TopicOptions, between, encode_headers

SHARED = ''
"""The queue of those who read a channel without being an agent."""


class ChannelRecord(NamedTuple):
    """One value in a channel; what a topic has as bytes are objects here."""

    topic: str
    value: Any
    key: Any
    headers: Headers
    timestamp: int
    partition: int = 0
    offset: int = -1


class Reader:
    """What one agent, or those who share, have not read of a channel.

    Attributes:
        queue: Values that were not taken.
        told: Called when one has come.
        taken: Tells how many were taken, and are not being handled.
    """

    def __init__(self, records: Iterable[ChannelRecord] = ()) -> None:
        self.queue = deque(records)
        self.told: Callable[[], None] | None = None
        self.taken: Callable[[], int] = int

    @property
    def waiting(self) -> int:
        """How many values nobody has begun to handle."""
        return len(self.queue) + self.taken()

    def close(self, unfinished: Iterable[ChannelRecord]) -> None:
        """Put back what was taken and is not finished."""
        self.told, self.taken = None, int
        self.queue.extendleft(reversed(list(unfinished)))


class Channel:
    """A bounded queue of values in memory; made by `app.channel`.

    Each agent of a channel sees every value, once per worker: there are no partitions, and no
    tables to be written. Without an agent it is read by `get` and `stream`, which share the values.
    What is in it ends with the process.

    Args:
        name: In errors, and of its dead letters: `{name}.dlq`.
        outlet: Of topics that are derived from it.
        clock: What timestamps and limits are measured with; asked each time.
        maxsize: How many values may wait to be handled.
        key_type, value_type: What keys and values are checked against, and converted into.

    Attributes:
        acks: Values count as finished when the agent has handled them.
        here: Its values stay in this process.
        internal: No worker makes a topic of that name.
    """

    acks = True
    here = True
    internal = False
    members: Sequence[Topic] | None = None

    def __init__(
        self,
        name: str,
        outlet: Outlet,
        clock: Callable[[], Clock],
        *,
        maxsize: int,
        key_type: Any = None,
        value_type: Any = None,
    ) -> None:
        if maxsize < 1:
            raise ValueError(f'channel {name}: maxsize must be at least 1, not {maxsize!r}')
        self.name = name
        self.maxsize = maxsize
        self.key_type = key_type
        self.value_type = value_type
        self.encode_key = serializers.key_codec(None, key_type).encode
        self.encode_value = serializers.value_codec(None, value_type).encode
        self._checked_key = _check_of(key_type)
        self._checked = _check_of(value_type)
        self._outlet = outlet
        self._clock = clock
        self._count = 0
        self._readers: dict[str, Reader] = {SHARED: Reader()}
        self._waiting = Waiters(clock)

    def __repr__(self) -> str:
        return f'<Channel {self.name}>'

    def __str__(self) -> str:
        return self.name

    # Values in

    async def put(
        self,
        value: Any = None,
        key: Any = None,
        *,
        timestamp: float | None = None,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> None:
        """Append a value at once, waiting while the channel is full.

        Args:
            timestamp: Epoch seconds, default now.

        Raises:
            InvalidBody: The value is not of the channel's type.
        """
        await self.append(self.record(key, value, None, timestamp, headers))

    async def send(
        self,
        *,
        key: Any = None,
        value: Any = None,
        partition: int | None = None,
        timestamp: float | None = None,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> None:
        """Send a value: while an event is being handled it is part of that, see `Topic.send`.

        It waits while the channel is full; what one event sends may go beyond that.
        """
        record = self.record(key, value, partition, timestamp, headers)
        lane = LANE.get()
        if lane is None or not lane.effective:
            await self.append(record)
            return
        effects = lane.effects
        await self._until_room()
        effects.then.append(lambda: self._append(record))

    async def forward(self, event: Event, key: Any = OWN_KEY) -> None:
        """Send an event's value, headers and timestamp; see `Event.forward`."""
        await self.send(
            key=event.key if key is OWN_KEY else key,
            value=event.value,
            headers=event.headers,
            timestamp=event.timestamp,
        )

    def record(
        self,
        key: Any,
        value: Any,
        partition: int | None = None,
        timestamp: float | None = None,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> ChannelRecord:
        """Return the record of a value; for its timestamp see `sent_at_ms`."""
        value, key = self._checked(value), self._checked_key(key)
        at = sent_at_ms(timestamp)
        if at is None:
            at = round(self._clock().time() * 1000)
        return ChannelRecord(self.name, value, key, encode_headers(headers or {}), at)

    async def append(self, record: ChannelRecord) -> None:
        """Append a record, waiting while the channel is full."""
        if DRY.get():
            return
        await self._until_room()
        self._append(record)

    def _append(self, record: ChannelRecord) -> None:
        numbered = record._replace(offset=self._count)
        self._count += 1
        for reader in self._readers.values():
            reader.queue.append(numbered)
            if reader.told is not None:
                reader.told()
        self.wake()

    async def _until_room(self) -> None:
        while any(reader.waiting >= self.maxsize for reader in self._readers.values()):
            await self._waiting.wait(None)

    # Values out

    async def get(self, timeout: float | None = None) -> Any:
        """Take the next value, waiting for one.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            TimeoutError: None has come.
            StreamError: Agents read this channel.
        """
        clock = self._clock()
        event = await self._take(None if timeout is None else clock.monotonic() + timeout)
        if event is None:
            raise TimeoutError(f'Channel {self.name}: nothing has come within {timeout:g} s')
        return event.value

    def empty(self) -> bool:
        """Tell whether no value waits to be read."""
        return not any(reader.waiting for reader in self._readers.values())

    def stream(self) -> Stream:
        """Return the stream of its values: to be iterated over, or to be given to an agent."""
        return Stream(self, lane=Loose(self._take, self._clock, self.named))

    def over(self, values: Iterable[Any] | AsyncIterable[Any]) -> Stream:
        """Return the stream of other values, checked as those of the channel are."""
        numbers = itertools.count()

        def event(value: Any) -> Event:
            return self.decode(self.record(None, value)._replace(offset=next(numbers)))

        taken = Iterated(values, event, self._clock)
        return Stream(self, lane=Loose(taken.take, self._clock, self.named))

    def __aiter__(self) -> Any:
        return aiter(self.stream())

    async def _take(self, until: float | None = None) -> Event | None:
        """Return the next event of those that no agent reads; None when `until` has come."""
        while True:
            shared = self._readers.get(SHARED)
            if shared is None:
                names = ', '.join(self._readers)
                raise errors.StreamError(f'Channel {self.name} is read by its agents: {names}')
            if shared.queue:
                record = shared.queue.popleft()
                self.wake()
                return self.decode(record)
            if not await self._waiting.wait(until):
                return None

    def decode(self, record: ChannelRecord, lane: Acks | None = None) -> Event:
        """Return the event of a record."""
        return Event(record.key, record.value, record, lane)

    def wake(self) -> None:
        """Let everybody look again who waits for a value, or for room."""
        self._waiting.wake()

    # For its agents

    def open(self, name: str, told: Callable[[], None], begun: Callable[[], int]) -> Reader:
        """Return what an agent reads, with all values that it has not finished.

        Args:
            told: Called when a value has come.
            begun: Tells how many values it has taken, and not begun to handle.
        """
        shared = self._readers.get(SHARED)
        reader = self._readers.get(name)
        if reader is None:
            reader = self._readers[name] = Reader(shared.queue if shared is not None else ())
        reader.told, reader.taken = told, begun
        return reader

    def only_agents(self) -> None:
        """All agents have opened it: nobody else reads it from now on."""
        self._readers.pop(SHARED, None)
        self.wake()

    # As the source of a stream

    @property
    def prefixed(self) -> str:
        """The name that topics derived from this one begin with."""
        return self.name

    @property
    def kind(self) -> Kind:
        """What values it has."""
        return Kind(None, self.value_type)

    def derive(self, name: str, *, key_type: Any, partitions: int | None, kind: Kind) -> Topic:
        """Return an internal topic for values from here by another key."""
        return Topic(
            name,
            self._outlet,
            key_type=key_type,
            value_type=kind.annotation,
            value_serializer=kind.serializer,
            options=TopicOptions(partitions=partitions),
            internal=True,
        )

    async def resend(self, event: Event, key: Any, value: Any) -> None:
        """Send what was made of an event, with its headers."""
        await self.send(key=key, value=value, headers=event.headers)

    def named(self, name: str) -> Topic:
        """Return a topic of the application."""
        return self._outlet.topic(name)

    def between(self, name: str, kind: Kind) -> Topic:
        """Return the topic of a name, for values from here."""
        return between(self._outlet, name, self.key_type, kind)

    def paired(self, name: str, left: Kind, right: Kind) -> NoReturn:
        """A channel has no partitions that a join could be made in.

        Raises:
            StreamError: Always.
        """
        raise errors.StreamError(
            f'Channel {self.name} cannot be joined; send its values to a topic with through() first'
        )


def _check_of(annotation: Any) -> Callable[[Any], Any]:
    """Return what makes a value one of the declared type, or says that it is none."""
    convert = codecs.Decoder(annotation).convert

    def check(value: Any) -> Any:
        if value is None or (isinstance(annotation, type) and isinstance(value, annotation)):
            return value
        return convert(value)

    return check
