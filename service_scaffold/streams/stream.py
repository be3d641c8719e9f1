"""What an agent's body iterates over."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, get_type_hints

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.streams.event import Acks, Event, Sends
from service_scaffold.streams.records import field_ref

Step = Callable[[Event], Awaitable[Event | None]]
"""Looks at an event on its way to the body; None ends its way."""


class Source(Sends, Protocol):
    """A topic, seen from its streams."""

    name: str
    acks: bool

    @property
    def prefixed(self) -> str: ...

    def derive(self, name: str, *, key_type: Any, partitions: int | None) -> Source: ...

    def decode(self, record: Any, lane: Acks | None = None) -> Event: ...


class Hop:
    """Moves events to another topic, so that they lie in the partitions of their new key.

    Attributes:
        name: Part of the names of its target and of what moves them.
        target: Where they go.
        key: Finds the new key of an event; None keeps it.
        steps: What happens before.
    """

    def __init__(
        self,
        name: str,
        target: Source,
        key: Callable[[Event], Any] | None,
        steps: tuple[Step, ...] = (),
    ) -> None:
        self.name = name
        self.target = target
        self.key = key
        self.steps = steps

    async def move(self, stream: Stream) -> None:
        """Do it for every event of a stream: the body of an agent of our own."""
        changed = bool(self.steps)
        async for event in stream.after(self.steps).events():
            key = event.key if self.key is None else self.key(event)
            if inspect.isawaitable(key):
                key = await key
            if changed:
                await self.target.send(key=key, value=event.value, headers=event.headers)
            else:
                await self.target.forward(event, key=key)


class Plan:
    """How records get from a topic to a body.

    Attributes:
        root: The topic that the agent was declared for.
        hops: What moves them on the way.
    """

    def __init__(self, root: Source, hops: tuple[Hop, ...] = ()) -> None:
        self.root = root
        self.hops = hops

    @property
    def input(self) -> Source:
        """The topic whose records the body sees."""
        return self.hops[-1].target if self.hops else self.root

    @property
    def inputs(self) -> tuple[Source, ...]:
        """All topics whose records the body sees."""
        return (self.input,)

    def decode(self, record: Any, lane: Reads) -> Event:
        """Return the event of a record of the input."""
        return self.input.decode(record, lane)


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
    """

    def __init__(
        self,
        source: Source,
        *,
        lane: Reads | None = None,
        steps: tuple[Step, ...] = (),
        hops: tuple[Hop, ...] = (),
    ) -> None:
        self.source = source
        self.hops = hops
        self._lane = lane
        self._steps = steps

    @property
    def plan(self) -> Plan:
        """What an agent that is given this stream reads.

        Raises:
            StreamError: Something happens on the way that belongs into the agent.
        """
        if self._steps:
            raise errors.StreamError(
                f'The stream of {self.source} is filtered or processed after its last group_by;'
                ' do that in the agent'
            )
        return Plan(self.source, self.hops)

    def __aiter__(self) -> AsyncIterator[Any]:
        self._own.check(self)
        return self

    async def __anext__(self) -> Any:
        event = await self._own.next()
        if self._steps:
            event = await self._through(event)
        return event.value  # type: ignore[union-attr]  # None only with a limit

    @property
    def _own(self) -> Reads:
        if self._lane is None:
            raise errors.StreamError(
                f'The stream of {self.source} is only declared; give it to @app.agent(...)'
            )
        return self._lane

    async def _next(self, *, keep: bool = False, until: float | None = None) -> Event | None:
        event = await self._own.next(keep=keep, until=until)
        if event is None or not self._steps:
            return event
        return await self._through(event, keep=keep, until=until)

    async def _through(
        self, event: Event | None, *, keep: bool = False, until: float | None = None
    ) -> Event | None:
        lane = self._own
        while event is not None:
            seen: Event | None = event
            for step in self._steps:
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
        return Stream(self.source, lane=self._lane, steps=(*self._steps, step), hops=self.hops)

    # One at a time

    async def items(self) -> AsyncIterator[tuple[Any, Any]]:
        """Iterate over `(key, value)`."""
        self._own.check(self)
        while (event := await self._next()) is not None:
            yield event.key, event.value

    async def events(self) -> AsyncIterator[Event]:
        """Iterate over events: value, key, headers, timestamp."""
        self._own.check(self)
        while (event := await self._next()) is not None:
            yield event

    async def enumerate(self, start: int = 0) -> AsyncIterator[tuple[int, Any]]:
        """Iterate over `(number, value)`; the number counts what this body has seen."""
        self._own.check(self)
        number = start
        while (event := await self._next()) is not None:
            yield number, event.value
            number += 1

    def noack(self) -> Stream:
        """Return a stream whose events are finished by `await stream.ack(event)` alone."""
        self._own.ack_by_hand()
        return Stream(self.source, lane=self._lane, steps=self._steps, hops=self.hops)

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
        steps = self._steps

        def make(prefix: str) -> Hop:
            target = topic or self.source.derive(
                f'{prefix}-{name}-repartition', key_type=key_type, partitions=partitions
            )
            return Hop(name, target, key, steps)

        lane = self._lane
        hop = make(self.source.prefixed) if lane is None else lane.hop(self, name, make)
        return Stream(hop.target, lane=lane, hops=(*self.hops, hop))

    def after(self, steps: tuple[Step, ...]) -> Stream:
        """Return the stream of what is left after these steps."""
        return Stream(self.source, lane=self._lane, steps=steps, hops=self.hops)

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


def key_of(key: Any) -> tuple[Callable[[Event], Any], str | None, Any]:
    """Return what finds the key of an event, its name, and the key's type where they are known.

    Args:
        key: A field of a Record or Struct, or a function of the value.

    Raises:
        TypeError: It is neither.
    """
    try:
        field = field_ref(key)
    except TypeError:
        if not callable(key):
            raise
        return (lambda event: key(event.value)), None, None
    name = field.name
    hint = get_type_hints(field.owner).get(name)
    return (lambda event: getattr(event.value, name)), name, hint
