"""How records get from topics to a body."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Protocol

from service_scaffold.streams.event import Acks, Event, Sends
from service_scaffold.streams.keys import Key
from service_scaffold.streams.steps import Kind, Step, looked_into


class Source(Sends, Protocol):
    """A topic, seen from its streams."""

    name: str
    acks: bool
    here: bool

    @property
    def members(self) -> Sequence[Source] | None: ...

    @property
    def prefixed(self) -> str: ...

    @property
    def kind(self) -> Kind: ...

    def derive(self, name: str, *, key_type: Any, partitions: int | None, kind: Kind) -> Source: ...

    async def resend(self, event: Event, key: Any, value: Any) -> None: ...

    def named(self, name: str) -> Source: ...

    def between(self, name: str, kind: Kind) -> Source: ...

    def paired(self, name: str, left: Kind, right: Kind) -> Source: ...

    def encode_key(self, key: Any) -> bytes | None: ...

    def decode(self, record: Any, lane: Acks | None = None) -> Event: ...


class Moved(Protocol):
    """A stream, as far as moving its events is concerned."""

    def after(self, steps: tuple[Step, ...]) -> Moved: ...

    def events(self) -> AsyncIterator[Event]: ...


class Hop:
    """Moves events to another topic, so that they lie in the partitions of their new key.

    Attributes:
        name: Part of the names of its target and of what moves them.
        source: Where they come from.
        target: Where they go.
        key: Finds the new key of an event; None keeps it.
        steps: What happens before.
        partitions: Asked for, of its target; None: as many as the source has.
        table: What it remembers, None for nothing.
    """

    table: Any = None
    joins = False
    """Whether its target has values of its own, that nobody sends to the source."""

    def __init__(
        self,
        name: str,
        source: Source,
        target: Source,
        key: Key | None = None,
        steps: tuple[Step, ...] = (),
        mover: str | None = None,
        partitions: int | None = None,
    ) -> None:
        self.name = name
        self.partitions = partitions
        self._mover = mover
        self.source = source
        self.target = target
        self.key = key
        self.steps = steps

    @property
    def mover(self) -> str:
        """Name of the agent of our own that moves them; default after the target."""
        return self._mover or self.target.name.rpartition('-')[0]

    @property
    def plan(self) -> Plan:
        """What the agent reads that moves them."""
        return Plan(self.source, tables=looked_into(self.steps))

    @property
    def before(self) -> tuple[Hop, ...]:
        """Other hops that it needs, beside those that lead to its source."""
        return ()

    def same_as(self, other: Hop) -> bool:
        """Whether one agent can do both."""
        return self is other or (
            (self.source.name, self.target.name) == (other.source.name, other.target.name)
            and (self.key, self.steps) == (other.key, other.steps)
            and self.partitions == other.partitions
        )

    async def move(self, stream: Moved) -> None:
        """Do it for every event of a stream: the body of an agent of our own."""
        changed = bool(self.steps) or self.source.kind != self.target.kind
        async for event in stream.after(self.steps).events():
            key = event.key if self.key is None else self.key(event)
            if inspect.isawaitable(key):
                key = await key
            if changed:
                await self.target.resend(event, key, event.value)
            else:
                await self.target.forward(event, key=key)


class Plan:
    """What a body reads, and what happens on the way.

    Attributes:
        root: The topic that the agent was declared for: what is sent to the agent goes there.
        hops: What moves events on the way.
        steps: What happens to an event after that.
        tables: What they, and the body, are known to look into.
        feeds: More hops, that bring events to other inputs.
        inputs: All topics whose records the body sees.
        decode: Returns the event of a record of an input, for a lane.
    """

    def __init__(
        self,
        root: Source,
        hops: tuple[Hop, ...] = (),
        *,
        steps: tuple[Step, ...] = (),
        tables: tuple[Any, ...] = (),
        others: Iterable[Source] = (),
        feeds: Iterable[Hop] = (),
    ) -> None:
        self.root = root
        self.hops = hops
        self.steps = steps
        self.tables = (*tables, *looked_into(steps))
        self.feeds = tuple(feeds)
        self._others = tuple(others)
        self.inputs = tuple(dict.fromkeys((self.input, *self._others)))
        if len(self.inputs) > 1:
            for source in self.inputs:
                if source.members is not None:
                    source.paired('', source.kind, source.kind)  # says that it cannot be
        self.decode: Callable[[Any, Acks], Event] = (
            self.input.decode if len(self.inputs) == 1 else self._decode
        )

    @property
    def input(self) -> Source:
        """The topic whose records the body sees; of several the first."""
        return self.hops[-1].target if self.hops else self.root

    def _decode(self, record: Any, lane: Acks) -> Event:
        for topic in self.inputs:
            if topic.name == record.topic:
                return topic.decode(record, lane)
        raise KeyError(record.topic)

    def reading(self, source: Source) -> Plan:
        """Return the same for another source, without any hops."""
        return Plan(source, steps=self.steps, tables=self.tables)

    def through(self, hops: tuple[Hop, ...], tables: tuple[Any, ...] = ()) -> Plan:
        """Return the same with other hops, and with more tables."""
        return Plan(
            self.root,
            hops,
            steps=self.steps,
            tables=tables,
            others=self._others,
            feeds=self.feeds,
        )

    @property
    def topics(self) -> set[Source]:
        """All topics on the way."""
        passed = {topic for hop in self.all_hops for topic in (*hop.plan.inputs, hop.target)}
        return {self.root, *self.inputs, *passed}

    @property
    def all_hops(self) -> list[Hop]:
        """These hops and those that they need, in the order of the events' way."""
        return _with_needs((*self.hops, *self.feeds))


def _with_needs(hops: Iterable[Hop]) -> list[Hop]:
    found: list[Hop] = []
    for hop in hops:
        found += _with_needs(hop.before)
        found.append(hop)
    return found
