"""What an agent's body iterates over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from service_scaffold import errors
from service_scaffold.streams.joins import How, join_of
from service_scaffold.streams.keys import FieldKey, Key, key_of
from service_scaffold.streams.plan import Hop, Plan, Source
from service_scaffold.streams.reading import Readable, Reads
from service_scaffold.streams.spans import Span
from service_scaffold.streams.steps import Echo, Filter, Kind, Lookup, Process, Step


class Stream(Readable):
    """The values of a topic, one after another.

    An event is finished when the next one is asked for. Each of the methods that return a stream
    leaves this one as it is; iterate over the one that was returned.

    Args:
        source: Where the values come from.
        lane: Who reads, None for a stream that is only declared.
        steps: What happens to each event before the body sees it.
        hops: What brings the events to the source.
        others: Streams whose values come as well.
    """

    def __init__(
        self,
        source: Source,
        *,
        lane: Reads | None = None,
        steps: tuple[Step, ...] = (),
        hops: tuple[Hop, ...] = (),
        others: tuple[Stream, ...] = (),
    ) -> None:
        super().__init__(source, lane, steps, hops)
        self.others = others

    @property
    def kind(self) -> Kind:
        """What values come out of it."""
        kind = self.source.kind
        for step in self.steps:
            kind = step.kind(kind)
        return kind

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
            others=[other.source for other in self.others],
            feeds=[hop for other in self.others for hop in other.hops],
        )

    def _with(self, step: Step) -> Stream:
        return self.after((*self.steps, step))

    def after(self, steps: tuple[Step, ...]) -> Stream:
        """Return the same values after these steps, and no others."""
        return Stream(self.source, lane=self._lane, steps=steps, hops=self.hops, others=self.others)

    # Into other partitions

    def group_by(
        self,
        key: Any,
        *,
        name: str | None = None,
        topic: Source | str | None = None,
        partitions: int | None = None,
    ) -> Stream:
        """Return the same values by another key, from an internal topic in between.

        All values of one key then lie in one partition, so that a table can be kept of them.

        Args:
            key: A field of a Record or Struct (`Order.account`), or a function of the value, sync
                or async, with `name`.
            name: Part of the topic's name; default the field's.
            topic: The topic in between, or its name; default one of our own.
            partitions: Of our own topic; default as many as this one has.

        Raises:
            TypeError: `key` is neither, or a field of something that the topic does not have.
            ValueError: A function has no `name`.
        """
        find, found, key_type = key_of(key)
        chosen = name or found
        if chosen is None:
            raise ValueError('group_by with a function needs name=, which names the topic between')
        processed = any(isinstance(step, Process) for step in self.steps)
        if isinstance(find, FieldKey) and not (self.source.here or processed):
            find.check(self.source, self.kind)
        return self._hop(chosen, topic, find, key_type, partitions)

    def through(self, topic: Source | str) -> Stream:
        """Return the same values, sent to `topic` and read from there.

        Args:
            topic: A topic, or its name; one that is not declared, and does not exist, is made with
                as many partitions as this stream's.
        """
        name = topic if isinstance(topic, str) else topic.name
        return self._hop(f'through-{name}', topic, None, None, None)

    def _hop(
        self,
        name: str,
        topic: Source | str | None,
        key: Key | None,
        key_type: Any,
        partitions: int | None,
    ) -> Stream:
        source, steps, kind = self._alone, self.steps, self.kind

        def make(prefix: str) -> Hop:
            if topic is not None:
                target = source.between(topic, kind) if isinstance(topic, str) else topic
                return Hop(name, source, target, key, steps, mover=f'{prefix}-{name}')
            target = source.derive(
                f'{prefix}-{name}-repartition',
                key_type=key_type,
                partitions=partitions,
                kind=kind,
            )
            return Hop(name, source, target, key, steps, partitions=partitions)

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

    # Together with others

    def join(
        self,
        other: Any,
        *,
        within: Span | None = None,
        how: How = 'inner',
        grace: Span = 0.0,
        name: str | None = None,
        idle_advance: Span | None = None,
        on_late: Any = None,
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
            on_late: Called as `on_late(key, event)`, sync or async, for a value that comes too late
                to wait for partners, or a topic or an agent that its event is sent to. It is
                counted anyway, and paired with what still waits.

        Raises:
            TypeError: `within` is missing, or given for a table.
            ValueError: `how` is unknown, or a span negative.
        """
        if not isinstance(other, Stream) and hasattr(other, 'changelog'):
            if within is not None:
                raise TypeError('A table has no within=: it is looked into at the event')
            if how not in ('inner', 'left'):
                raise ValueError(
                    f"A stream is joined to a table with how='inner' or 'left', not {how!r}"
                )
            return self._with(Lookup(other, always=how == 'left'))
        right = other if isinstance(other, Stream) else other.stream()
        make = join_of(self, right, within, grace, how, name, idle_advance, on_late)
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

        return self._with(Filter(predicate))

    def add_processor(self, processor: Callable[[Any], Any]) -> Stream:
        """Return a stream of what `processor`, sync or async, makes of each value.

        Where the values go through a topic afterwards (`group_by`, `through`, joins of streams) the
        function's return annotation says what they are; without one they are of the type that they
        had before.
        """
        return self._with(Process(processor))

    def echo(self, *channels: Any) -> Stream:
        """Return the same stream; each value is sent to these, too, with its key.

        Args:
            channels: Topics or their names, channels, agents.

        Raises:
            TypeError: One of them takes no values.
        """
        targets = [self.source.named(one) if isinstance(one, str) else one for one in channels]
        for target in targets:
            if not hasattr(target, 'send'):
                raise TypeError(f'{target!r} takes no values; echo sends to topics and the like')
        return self._with(Echo(tuple(targets)))
