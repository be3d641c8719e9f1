"""An agent: a function over the stream of a topic."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from service_scaffold import errors
from service_scaffold.streams import deadletters, replies
from service_scaffold.streams.asking import Askable
from service_scaffold.streams.channel import Channel
from service_scaffold.streams.decision import ErrorHook, OnError
from service_scaffold.streams.effects import Hand
from service_scaffold.streams.event import Event
from service_scaffold.streams.plan import Hop, Plan, Source
from service_scaffold.streams.reading import Reads
from service_scaffold.streams.refusals import Refusals
from service_scaffold.streams.stream import Stream
from service_scaffold.streams.topic import Topic

Body = Callable[[Any], Any]
"""`async def body(stream)`: a coroutine function, or an async generator."""


@dataclass
class AgentStats:
    """Plain counts, over all lanes since the start.

    Attributes:
        processed: Events that were handled.
        failed: Attempts that raised.
        retried: Attempts that were made again.
        skipped: Events dropped because an error hook said so.
        dead_lettered: Events in the dead letters.
        last_error: What it failed with last.
    """

    processed: int = 0
    failed: int = 0
    retried: int = 0
    skipped: int = 0
    dead_lettered: int = 0
    last_error: Exception | None = None


class Agent(Askable):
    """One function that handles the events of a topic; made by `@app.agent`.

    Attributes:
        name: Unique in the application.
        plan: What it reads: a topic, and what happens on the way to the body.
        concurrency: Lanes per partition; a key always goes through the same one.
        sinks: Where its results go: topics, agents, or functions.
        group: The application's id.
        stats: Counts.
        refusals: What the log has not taken.
        alone: Whether nobody else here reads the same: a question that is not for it is for nobody.
    """

    def __init__(
        self,
        name: str,
        body: Body,
        plan: Plan,
        *,
        group: str,
        concurrency: int = 1,
        sinks: Sequence[Any] = (),
        on_error: OnError | None = None,
        help: str = '',
    ) -> None:
        _check_body(name, body)
        if not isinstance(concurrency, int) or concurrency < 1:
            raise ValueError(
                f'agent {name}: concurrency must be a whole number, at least 1, not {concurrency!r}'
            )
        if sinks and not inspect.isasyncgenfunction(inspect.unwrap(body)):
            raise TypeError(f'agent {name} has sinks, but its function yields nothing')
        self.name = name
        self.body = body
        self.plan = plan
        self._declared = plan
        self.group = group
        self.concurrency = concurrency
        self.sinks = [_checked_sink(name, sink) for sink in sinks]
        self.on_error = ErrorHook(on_error)
        self.help = help or inspect.getdoc(body) or ''
        self.stats = AgentStats()
        self.on_rest: Callable[[], None] | None = None
        self.trial: Callable[[Agent], Any] | None = None
        self.refusals = Refusals()
        self.alone = False
        self._twins: dict[str, Agent] = {}
        self.check_names()

    def __repr__(self) -> str:
        return f'<Agent {self.name}>'

    def __str__(self) -> str:
        return self.name

    @property
    def topic(self) -> Source:
        """The topic that values are sent to for this agent."""
        return self.plan.root

    @property
    def last_error(self) -> Exception | None:
        """What it failed with last."""
        return self.stats.last_error

    def add_sink(self, sink: Any) -> None:
        """Send results there too, from now on."""
        if not inspect.isasyncgenfunction(inspect.unwrap(self.body)):
            raise TypeError(f'agent {self.name} yields nothing that a sink could take')
        self.sinks.append(_checked_sink(self.name, sink))

    def test_context(self) -> Any:
        """Try the agent by itself: `async with agent.test_context() as a: await a.put(value)`.

        Returns:
            A context manager that gives a `Trial`: `put`, `advance`, `results`, `sent`.

        Raises:
            StreamError: It belongs to no application.
        """
        if self.trial is None:
            raise errors.StreamError(f'Agent {self.name} belongs to no application')
        return self.trial(self)

    # Where it reads several topics

    @property
    def reads(self) -> list[str]:
        """The names of its topics, as far as they are known."""
        return [one.name for source in self.plan.inputs for one in source.members or (source,)]

    def check_names(self) -> None:
        """Make sure that what it reads can have dead letters.

        Raises:
            ConfigError: The name of their topic would be none.
        """
        for topic in self.reads:
            deadletters.check_store(topic, self.name)

    def spread(self) -> Sequence[Agent]:
        """Return it once for each topic that it reads by itself; see `Several`."""
        topics = self.plan.input.members
        if not topics:
            return (self,)
        for topic in topics:
            if topic.name not in self._twins:
                self._twins[topic.name] = self._twin(topic)
        return [self._twins[topic.name] for topic in topics]

    def _twin(self, topic: Source) -> Agent:
        twin = copy(self)  # with the same counts, sinks and error hook
        twin.plan, twin._declared = self.plan.reading(topic), self._declared.reading(topic)
        return twin

    def gather(self) -> None:
        """Forget how it was spread: something about it changes."""
        self._twins = {}

    # For its lanes

    def call(self, lane: Reads) -> Any:
        """Return what running the body gives: a coroutine or an async generator."""
        return self.body(self.stream(lane))

    def stream(self, reader: Reads) -> Stream:
        """Return what the body is given."""
        plan = self._declared
        others = tuple(Stream(topic) for topic in plan.inputs[1:])
        return Stream(plan.input, lane=reader, hops=plan.hops, steps=plan.steps, others=others)

    def check_hops(self, count: int) -> None:
        """Make sure that a body iterates over the last of the streams that it has made.

        Raises:
            StreamError: It moved events elsewhere, and does not look there.
        """
        if count != len(self.plan.hops):
            raise errors.StreamError(
                f'Agent {self.name} must iterate over what its last group_by, through or join has'
                ' returned'
            )

    def hop(self, place: int, name: str) -> Hop:
        """Return the hop of a body that was found when the application started.

        Raises:
            StreamError: The body has not made it then.
        """
        hops = self.plan.hops
        if place >= len(hops) or hops[place].name != name:
            raise errors.StreamError(
                f'Agent {self.name} calls group_by, through or join ({name}) where the start could'
                ' not see it; call it in the function itself, before its first event, and each'
                ' time the same'
            )
        return hops[place]

    def decode(self, record: Any, lane: Reads) -> Event:
        """Return the event of a record of its input."""
        return self.plan.decode(record, lane)

    def rested(self) -> None:
        """One of the lanes has nothing to do."""
        if self.on_rest is not None:
            self.on_rest()

    async def emit(self, lane: Hand, value: Any) -> None:
        """Pass on what the body has yielded: to the sinks, and to whoever asked."""
        replies.answer(lane, value)
        event = lane.event
        key = None if event is None else event.key
        for sink in self.sinks:
            if isinstance(sink, Topic | Channel | Agent):
                await sink.send(key=key, value=value)
            else:
                answer = sink(value)
                if inspect.isawaitable(answer):
                    await answer


def _checked_sink(agent: str, sink: Any) -> Any:
    if not (isinstance(sink, Topic | Channel | Agent) or callable(sink)):
        raise TypeError(f'agent {agent}: {sink!r} is no sink: a topic, an agent or a function is')
    return sink


def _check_body(name: str, body: Body) -> None:
    plain = inspect.unwrap(body)
    call = plain if inspect.isroutine(plain) else getattr(plain, '__call__', plain)  # noqa: B004
    if not (inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)):
        raise TypeError(f'agent {name}: {body!r} must be an `async def` that takes a stream')
