"""What an agent's body iterates over."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, Protocol

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.streams.event import Event
from service_scaffold.streams.joins import How, Lookup, join_of, lookup
from service_scaffold.streams.plan import Hop, Plan, Source, Step, key_of


class Reads(Protocol):
    """Whoever reads a stream: a lane, or one who only finds out what the body does with it."""

    @property
    def clock(self) -> Clock: ...

    async def next(self, *, keep: bool = False, until: float | None = None) -> Event | None: ...

    def hop(self, stream: Stream, name: str, make: Callable[[str], Hop]) -> Hop: ...

    def check(self, stream: Stream) -> None: ...

    def skip(self, event: Event) -> None: ...

    def batch_limit(self, wanted: int) -> int: ...

    def ack_by_hand(self) -> None: ...

    async def ack(self, event: Event) -> None: ...


class Stream:
    """The values of a topic, one after another.

    An event is finished when the next one is asked for. Each of the methods that return a stream
    leaves this one as it is; iterate over the one that was returned.

    Args:
        source: Where the values come from.
        lane: Who reads, None for a stream that is only declared.
        steps: What happens to each event before the body sees it.
        hops: What brings the events to the source.
        tables: What the steps look into.
        others: Streams whose values come as well.
    """

    def __init__(
        self,
        source: Source,
        *,
        lane: Reads | None = None,
        steps: tuple[Step, ...] = (),
        hops: tuple[Hop, ...] = (),
        tables: tuple[Lookup, ...] = (),
        others: tuple[Stream, ...] = (),
    ) -> None:
        self.source = source
        self.hops = hops
        self.steps = steps
        self.tables = tables
        self.others = others
        self._lane = lane

    @property
    def plan(self) -> Plan:
        """What an agent that is given this stream reads."""
        root = self.source
        for hop in reversed(self.hops):
            if hop.joins:
                break
            root = hop.source
        return Plan(
            root,
            self.hops,
            steps=self.steps,
            tables=self.tables,
            others=[other.source for other in self.others],
            feeds=[hop for other in self.others for hop in other.hops],
        )

    def __aiter__(self) -> AsyncIterator[Any]:
        self._own.check(self)
        return self

    async def __anext__(self) -> Any:
        event = await self._own.next()
        if self.steps:
            event = await self._through(event)
        if event is None:
            raise StopAsyncIteration  # it is read outside of agents, and has an end
        return event.value

    @property
    def _own(self) -> Reads:
        if self._lane is None:
            raise errors.StreamError(
                f'The stream of {self.source} is only declared; give it to @app.agent(...)'
            )
        return self._lane

    def _following(self) -> Callable[[], Awaitable[Event | None]]:
        """Return what gives the next event; the body iterates over this stream."""
        lane = self._own
        lane.check(self)
        return self._next if self.steps else lane.next

    async def _next(self, *, keep: bool = False, until: float | None = None) -> Event | None:
        event = await self._own.next(keep=keep, until=until)
        if event is None or not self.steps:
            return event
        return await self._through(event, keep=keep, until=until)

    async def _through(
        self, event: Event | None, *, keep: bool = False, until: float | None = None
    ) -> Event | None:
        lane = self._own
        while event is not None:
            seen: Event | None = event
            for step in self.steps:
                seen = await step(event)
                if seen is None:
                    break
            if seen is not None:
                return seen
            if keep:
                lane.skip(event)
            event = await lane.next(keep=keep, until=until)
        return None

    def _with(self, step: Step) -> Stream:
        return self._like(steps=(*self.steps, step))

    def _like(self, steps: tuple[Step, ...], tables: tuple[Lookup, ...] = ()) -> Stream:
        return Stream(
            self.source,
            lane=self._lane,
            steps=steps,
            hops=self.hops,
            tables=(*self.tables, *tables),
            others=self.others,
        )

    # One at a time

    async def items(self) -> AsyncIterator[tuple[Any, Any]]:
        """Iterate over `(key, value)`."""
        following = self._following()
        while (event := await following()) is not None:
            yield event.key, event.value

    async def events(self) -> AsyncIterator[Event]:
        """Iterate over events: value, key, headers, timestamp."""
        following = self._following()
        while (event := await following()) is not None:
            yield event

    async def enumerate(self, start: int = 0) -> AsyncIterator[tuple[int, Any]]:
        """Iterate over `(number, value)`; the number counts what this body has seen."""
        following = self._following()
        number = start
        while (event := await following()) is not None:
            yield number, event.value
            number += 1

    def noack(self) -> Stream:
        """Return a stream whose events are finished by `await stream.ack(event)` alone."""
        self._own.ack_by_hand()
        return self._like(self.steps)

    async def ack(self, event: Event) -> None:
        """Finish an event; what was sent and written until now counts."""
        await self._own.ack(event)

    # In batches

    async def take(self, max_: int, within: float | None = None) -> AsyncIterator[list[Any]]:
        """Iterate over lists of up to `max_` values.

        The events of a list are finished when the next list is asked for, together.

        Args:
            within: Seconds, from the first value on, after which a shorter list will do.
        """
        async for events in self.take_events(max_, within):
            yield [event.value for event in events]

    async def take_events(
        self, max_: int, within: float | None = None
    ) -> AsyncIterator[list[Event]]:
        """Iterate over lists of up to `max_` events; see `take`."""
        if max_ < 1:
            raise ValueError(f'take needs at least 1, not {max_!r}')
        lane = self._own
        lane.check(self)
        while (event := await self._next()) is not None:
            batch = [event]
            until = None if within is None else lane.clock.monotonic() + within
            while len(batch) < lane.batch_limit(max_):
                event = await self._next(keep=True, until=until)
                if event is None:
                    break
                batch.append(event)
            yield batch

    async def take_with_timestamp(
        self, max_: int, within: float | None = None, timestamp_field_name: str = 'timestamp'
    ) -> AsyncIterator[list[Any]]:
        """Iterate as `take` does; each value, a mapping, gets its event's time in epoch seconds.

        Args:
            timestamp_field_name: The key, in each value, of the time.
        """
        async for events in self.take_events(max_, within):
            yield [{**event.value, timestamp_field_name: event.timestamp} for event in events]

    # Into other partitions

    def group_by(
        self,
        key: Any,
        *,
        name: str | None = None,
        topic: Source | None = None,
        partitions: int | None = None,
    ) -> Stream:
        """Return the same values by another key, from an internal topic in between.

        All values of one key then lie in one partition, so that a table can be kept of them.

        Args:
            key: A field of a Record or Struct (`Order.account`), or a function of the value, sync
                or async, with `name`.
            name: Part of the topic's name; default the field's.
            topic: The topic in between, default one of our own.
            partitions: Of our own topic; default as many as this one has.

        Raises:
            TypeError: `key` is neither.
            ValueError: A function has no `name`.
        """
        find, found, key_type = key_of(key)
        chosen = name or found
        if chosen is None:
            raise ValueError('group_by with a function needs name=, which names the topic between')
        return self._hop(chosen, topic, find, key_type, partitions)

    def through(self, topic: Source) -> Stream:
        """Return the same values, sent to `topic` and read from there."""
        return self._hop(f'through-{topic.name}', topic, None, None, None)

    def _hop(
        self,
        name: str,
        topic: Source | None,
        key: Callable[[Event], Any] | None,
        key_type: Any,
        partitions: int | None,
    ) -> Stream:
        source, steps = self._alone, self.steps

        def make(prefix: str) -> Hop:
            if topic is not None:
                return Hop(name, source, topic, key, steps, mover=f'{prefix}-{name}')
            target = source.derive(
                f'{prefix}-{name}-repartition', key_type=key_type, partitions=partitions
            )
            return Hop(name, source, target, key, steps)

        return self._via(name, make)

    def _via(self, name: str, make: Callable[[str], Hop]) -> Stream:
        lane = self._lane
        hop = make(self.source.prefixed) if lane is None else lane.hop(self, name, make)
        return Stream(hop.target, lane=lane, hops=(*self.hops, hop))

    @property
    def _alone(self) -> Source:
        if self.others:
            raise errors.StreamError(
                f'The stream of {self.source} is combined with others; do that last'
            )
        return self.source

    def after(self, steps: tuple[Step, ...]) -> Stream:
        """Return the stream of what is left after these steps."""
        return self._like(steps)

    # Together with others

    def join(
        self,
        other: Any,
        *,
        within: float | timedelta | None = None,
        how: How = 'inner',
        grace: float | timedelta = 0.0,
        name: str | None = None,
        idle_advance: float | timedelta | None = None,
    ) -> Stream:
        """Return pairs `(left, right)` of these values and those of another stream, or of a table.

        Two streams: pairs have equal keys, and timestamps that differ by `within` at most. Give
        what is returned to `@app.agent`. A table: its value for the event's key, None without one.

        Args:
            within: Seconds, or a timedelta; needed for a stream.
            how: `inner`: only pairs. `left`: one of ours without a partner comes as
                `(value, None)`. `outer`: one of theirs, too, as `(None, value)`.
            grace: Seconds that a value waits for partners that come late, beyond `within`.
            name: Of the join, in the names of its topics; default that of both topics and `how`.
            idle_advance: Seconds without an event in a partition after which its time follows the
                clock, so many seconds behind; None: never.

        Raises:
            TypeError: `within` is missing, or given for a table.
            ValueError: `how` is unknown, or a span negative.
        """
        if not isinstance(other, Stream) and hasattr(other, 'changelog'):
            if within is not None:
                raise TypeError('A table has no within=: it is looked into at the event')
            step = lookup(other, how)
            return self._like((*self.steps, step), tables=(other,))
        right = other if isinstance(other, Stream) else other.stream()
        make = join_of(self, right, within, grace, how, name, idle_advance)
        _ = self._alone, right._alone
        return self._via(make('').name, make)

    def inner_join(self, other: Any, **options: Any) -> Stream:
        """Do as `join` with `how='inner'`."""
        return self.join(other, how='inner', **options)

    def left_join(self, other: Any, **options: Any) -> Stream:
        """Do as `join` with `how='left'`."""
        return self.join(other, how='left', **options)

    def outer_join(self, other: Any, **options: Any) -> Stream:
        """Do as `join` with `how='outer'`."""
        return self.join(other, how='outer', **options)

    def combine(self, *others: Any) -> Stream:
        """Return the values of all these streams, by their time; to be given to `@app.agent`.

        Raises:
            StreamError: One of them is filtered or processed; do that with what is returned.
        """
        streams = [other if isinstance(other, Stream) else other.stream() for other in others]
        flat = [part for stream in streams for part in (stream, *stream.others)]
        if self._lane is not None or any(part.steps for part in (self, *flat)):
            raise errors.StreamError(
                'Combine declared streams, before filter and the like, and give the result to'
                ' @app.agent(...)'
            )
        return Stream(self.source, hops=self.hops, others=(*self.others, *flat))

    def __and__(self, other: Any) -> Stream:
        return self.combine(other)

    # On the way

    def filter(self, predicate: Callable[[Any], Any]) -> Stream:
        """Return a stream of those values for which `predicate`, sync or async, is true.

        The others are finished.
        """

        async def step(event: Event) -> Event | None:
            answer = predicate(event.value)
            if inspect.isawaitable(answer):
                answer = await answer
            return event if answer else None

        return self._with(step)

    def add_processor(self, processor: Callable[[Any], Any]) -> Stream:
        """Return a stream of what `processor`, sync or async, makes of each value."""

        async def step(event: Event) -> Event | None:
            value = processor(event.value)
            event.value = await value if inspect.isawaitable(value) else value
            return event

        return self._with(step)

    def echo(self, *channels: Any) -> Stream:
        """Return the same stream; each value is sent to these topics, too, with its key."""

        async def step(event: Event) -> Event | None:
            for channel in channels:
                await channel.send(key=event.key, value=event.value)
            return event

        return self._with(step)
