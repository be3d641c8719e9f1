"""What an application declares: topics, agents, tables, timers."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from service_scaffold import errors
from service_scaffold.journal.base import NewRecord
from service_scaffold.streams.agent import Agent, Body
from service_scaffold.streams.channel import Channel
from service_scaffold.streams.channels import Channels
from service_scaffold.streams.committing import CheckpointStats
from service_scaffold.streams.decision import DEFAULT, UNACKNOWLEDGED, ErrorHook, OnError
from service_scaffold.streams.duties import Duties
from service_scaffold.streams.effects import DRY
from service_scaffold.streams.joins import Join
from service_scaffold.streams.leader import Leading
from service_scaffold.streams.naming import check_id
from service_scaffold.streams.plan import Hop, Plan
from service_scaffold.streams.probe import discover
from service_scaffold.streams.refusals import Refusals
from service_scaffold.streams.rpc import Calls
from service_scaffold.streams.runtime import Runtime
from service_scaffold.streams.sending import Sending
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.several import Several
from service_scaffold.streams.stream import Stream
from service_scaffold.streams.tables import table as tables
from service_scaffold.streams.tables.buffer import JoinBuffer
from service_scaffold.streams.tables.kinds import TableKinds
from service_scaffold.streams.topic import RecordMetadata, Topic, TopicOptions, check_guarantee
from service_scaffold.streams.trial import trials


class Topology(TableKinds, Leading, Duties, Channels, Sending):
    """Everything that was declared; nothing of it runs before the application starts.

    Attributes:
        settings: Of the application; its id is the prefix of internal names.
        topics: By name.
        agents: By name.
        tables: By name.
        movers: Agents of our own that move events to other topics; known after `discover`.
        runtime: What it runs on, None while it does not.
        calls: What this process has asked its agents, and others of the same id.
        refusals: What the log has not taken.
        checkpoints: How many there were, and how long they took.
        patterns: What stands for the topics whose names match one.
    """

    def __init__(self, settings: StreamSettings) -> None:
        super().__init__()
        self.settings = settings
        self.topics: dict[str, Topic] = {}
        self.agents: dict[str, Agent] = {}
        self.tables: dict[str, tables.Table] = {}
        self.movers: list[Agent] = []
        self.runtime: Runtime | None = None
        self.calls = Calls(self)
        self.refusals = Refusals()
        self.checkpoints = CheckpointStats()
        self.patterns: list[Several] = []
        self._rested = asyncio.Event()
        self._own_topics: list[Topic] = []
        check_id(self.id, self.calls.reply_to)

    @property
    def id(self) -> str:
        """The application's id: its consumer group, and prefix of what is its own."""
        return self.settings.id

    def configure(self, settings: StreamSettings) -> None:
        """Take other settings, before anything runs; what is named after the id is renamed.

        Raises:
            ConfigError: A topic asks for more than the application guarantees now, or the names of
                topics cannot be made of the id.
        """
        before, self.settings = self.settings, settings
        for topic in self.topics.values():
            check_guarantee(topic.name, topic.guarantee, settings.guarantee)
        self.take_zone()
        if before.id != settings.id:
            self._rename(f'{before.id}-')
        names = [topic.name for topic in self._between()]
        names += [table.changelog for table in self.tables.values()]
        check_id(self.id, self.calls.reply_to, names)

    def _rename(self, old: str) -> None:
        for agent in self.agents.values():
            agent.group = self.id
        for topic in self._between() - set(self._own_topics):
            if topic.name.startswith(old):  # else somebody has named it
                topic.name = self.prefixed(topic.name.removeprefix(old))
        for topic in self._own_topics:
            del self.topics[topic.name]
            topic.name = self.prefixed(topic.name.removeprefix(old))
            self.topics[topic.name] = topic
        for table in self.tables.values():
            table.changelog = self.prefixed(f'{table.name}-changelog')

    def _between(self) -> set[Topic]:
        """Return our own topics between agents."""
        found = {topic for agent in self.agents.values() for topic in agent.plan.topics}
        return {topic for topic in cast(set[Topic], found) if topic.internal}

    # Topics

    def topic(
        self,
        topic: str | None = None,
        *more: str,
        pattern: str | re.Pattern[str] | None = None,
        key_type: Any = None,
        value_type: Any = None,
        key_serializer: Any = None,
        value_serializer: Any = None,
        partitions: int | None = None,
        retention: Any = None,
        compacting: bool | None = None,
        deleting: bool | None = None,
        replicas: int | None = None,
        acks: bool = True,
        delivery_guarantee: str | None = None,
        maxsize: int | None = None,
        root: str | None = None,
        config: Mapping[str, Any] | None = None,
        internal: bool = False,
    ) -> Topic:
        """Declare a topic; once more, with the same name, it is the same.

        Several names, or a pattern, stand for several topics, to be read by agents; see `Several`.

        Args:
            pattern: What whole names have to match. A topic that appears is read, too; dead
                letters and topics of the application's own are left out.
            key_type, value_type: What keys and values are decoded into, and checked against.
            key_serializer, value_serializer: Codecs by name; default text and JSON.
            partitions: Given, a worker makes the topic if it is missing.
            retention: Seconds, or a timedelta, that records are kept.
            compacting, deleting, replicas, config: How it is made.
            acks: False: what is read counts as finished at once.
            delivery_guarantee: A weaker one than the application's, for this topic.
            maxsize: How many of its records may wait for an agent, per partition.
            root: Prefix of the name.

        Raises:
            ConfigError: The guarantee is unknown, or more than the application's.
            TypeError: There is neither a name nor a pattern, or both.
        """
        if (topic is None) == (pattern is None):
            raise TypeError('app.topic needs names, or pattern=')
        options = {key: value for key, value in locals().items() if key in _OPTIONS}
        if topic is None or more:
            return self._several([] if topic is None else [topic, *more], pattern, options)
        return self._one(topic, **options)

    def _one(
        self,
        topic: str,
        *,
        root: str | None,
        delivery_guarantee: str | None,
        partitions: int | None,
        replicas: int | None,
        retention: Any,
        compacting: bool | None,
        deleting: bool | None,
        config: Mapping[str, Any] | None,
        **options: Any,
    ) -> Topic:
        name = f'{root}{topic}' if root else topic
        guarantee = check_guarantee(name, delivery_guarantee, self.settings.guarantee)
        seconds = retention.total_seconds() if hasattr(retention, 'total_seconds') else retention
        options['key_serializer'] = options['key_serializer'] or self.settings.key_serializer
        options['value_serializer'] = options['value_serializer'] or self.settings.value_serializer
        made = Topic(
            name,
            self,
            options=TopicOptions(
                partitions, replicas, seconds, compacting, deleting, dict(config or {})
            ),
            guarantee=guarantee,
            **options,
        )
        known = self.topics.setdefault(name, made)
        if known is not made and (options['key_type'] or options['value_type'] or partitions):
            self.topics[name] = made  # the later declaration says more
            return made
        return known

    def _several(self, names: list[str], pattern: Any, options: dict[str, Any]) -> Several:
        types = {name: options[name] for name in ('key_type', 'value_type')}
        types['key_serializer'] = options['key_serializer'] or self.settings.key_serializer
        types['value_serializer'] = options['value_serializer'] or self.settings.value_serializer
        found = Several(self, names, pattern, partial(self.topic, **options), **types)
        if pattern is not None:
            self.patterns.append(found)
        return found

    def prefixed(self, name: str) -> str:
        """Return a name of the application's own."""
        return f'{self.id}-{name}'

    def maxsize(self, topic: str) -> int | None:
        """Return how many records of a topic may wait, None for the application's limit."""
        found = self.topics.get(topic)
        return None if found is None else found.maxsize

    @property
    def sources(self) -> list[str]:
        """Names of all topics that agents read."""
        return sorted({t.name for agent in self.running for t in agent.plan.inputs})

    @property
    def running(self) -> list[Agent]:
        """The declared agents, and those that move events for them; those of channels are not."""
        return [one for agent in self._of_topics for one in agent.spread()]

    @property
    def _of_topics(self) -> list[Agent]:
        return [agent for agent in self.all_agents if not isinstance(agent.plan.input, Channel)]

    @property
    def local(self) -> list[Agent]:
        """Agents of channels, which run once per worker."""
        return [agent for agent in self.all_agents if isinstance(agent.plan.input, Channel)]

    @property
    def all_agents(self) -> list[Agent]:
        """The declared agents, and those of our own, once each."""
        return [*self.agents.values(), *self.movers]

    # Agents

    def agent(
        self,
        channel: Any = None,
        *,
        name: str | None = None,
        concurrency: int = 1,
        sink: Sequence[Any] | None = None,
        on_error: OnError | None = None,
        supervisor_strategy: Any = None,
        help: str | None = None,
        isolated_partitions: bool = False,
        key_type: Any = None,
        value_type: Any = None,
    ) -> Callable[[Body], Agent]:
        """Declare an agent: `@app.agent(topic) async def body(stream): ...`.

        Args:
            channel: A topic, its name, or a stream; None makes a topic of the agent's own.
            name: Default the function's.
            concurrency: Lanes per partition; a key goes through the same one, in order.
            sink: Where what the body yields goes: topics or their names, agents, functions.
            on_error: `(agent, exc)` or `(agent, exc, event)`, returns a `Decision`; default three
                attempts, then the dead letters.
            help: Default the function's docstring.

        Raises:
            ValueError: The name is taken, or `concurrency` is less than 1.
            TypeError: The function is no coroutine function and no async generator, or `sink` is
                no list.
        """

        if isinstance(sink, str):
            raise TypeError(f'sink must be a list, as sink=[{sink!r}]')

        def declare(body: Body) -> Agent:
            chosen = name or getattr(body, '__name__', None) or type(body).__name__
            if chosen in self.agents:
                raise ValueError(f'There is an agent {chosen!r} already; give this one a name=')
            agent = Agent(
                chosen,
                body,
                self._plan(chosen, channel, key_type, value_type),
                group=self.id,
                concurrency=concurrency,
                sinks=[self.topic(one) if isinstance(one, str) else one for one in sink or ()],
                on_error=on_error,
                help=help or '',
            )
            agent.on_rest = self._rested.set
            agent.calls = self.calls
            agent.refusals = self.refusals
            agent.trial = trials(self.topics)
            self.agents[chosen] = agent
            return agent

        return declare

    def _plan(self, agent: str, channel: Any, key_type: Any, value_type: Any) -> Plan:
        if channel is None:
            name = self.prefixed(agent)
            own = self.topic(name, key_type=key_type, value_type=value_type, internal=True)
            self._own_topics.append(own)
            return Plan(own)
        if isinstance(channel, str):
            return Plan(self.topic(channel, key_type=key_type, value_type=value_type))
        if isinstance(channel, Stream):
            return channel.plan
        if isinstance(channel, Topic | Channel):
            return Plan(channel)
        raise TypeError(f'agent {agent}: a topic, a name or a stream is needed, not {channel!r}')

    async def discover(self) -> None:
        """Find out what the bodies do with their streams before their first event.

        A body that names `group_by`, `through` or a join is run up to its first event, and ended.

        Raises:
            StreamError: It does not get there.
        """
        self._rested = asyncio.Event()  # one that was waited for belongs to its loop
        for agent in self.agents.values():
            agent.plan = await discover(agent)
        hops: dict[str, Hop] = {}
        users: dict[str, set[ErrorHook]] = {}
        for agent in self.agents.values():
            for hop in agent.plan.all_hops:
                self._check_same(hop, hops.setdefault(hop.mover, hop))
                users.setdefault(hop.mover, set()).add(agent.on_error)
        self.movers = [self._mover(hop, users[hop.mover]) for hop in hops.values()]
        for topic in self._between():
            self.topics.setdefault(topic.name, topic)
        if self.elects or self.settings.elect:
            self.movers.append(self.elector())
        default = DEFAULT if self.settings.ack_exceptions else UNACKNOWLEDGED
        for table in self.tables.values():
            table.choose = self.settings.partitioner
        readers = Counter(name for agent in self.all_agents for name in agent.reads)
        for agent in self._of_topics:
            agent.check_names()
            agent.gather()
            agent.alone = all(readers[name] == 1 for name in agent.reads)
            agent.on_rest = self._rested.set
            agent.on_error.default = default

    def _check_same(self, hop: Hop, known: Hop) -> None:
        if not hop.same_as(known):
            raise errors.ConfigError(
                f'{hop.mover} would be the name of two different things of {self.id}; give one of'
                f' them a name= of its own'
            )

    def _mover(self, hop: Hop, hooks: set[ErrorHook]) -> Agent:
        """Return the agent of our own that does a hop; errors of one agent go to its hook."""
        if isinstance(hop, Join):
            name = hop.mover.removeprefix(self.prefixed(''))
            hop.table = JoinBuffer(hop, f'{name}-join', self.prefixed(f'{name}-join-changelog'))
            if not isinstance(self.tables.get(hop.table.name, hop.table), JoinBuffer):
                raise errors.ConfigError(f'Table {hop.table.name}: a join needs this name')
            self.tables[hop.table.name] = hop.table
        mover = Agent(hop.mover, hop.move, hop.plan, group=self.id)
        mover.refusals = self.refusals
        if len(hooks) == 1:
            mover.on_error = hooks.pop()
        return mover

    async def until_rest(self, limit_s: float) -> None:
        """Wait until some body waits for an event again, at most so long."""
        self._rested.clear()
        try:
            async with asyncio.timeout(limit_s):
                await self._rested.wait()
        except TimeoutError:
            return

    # Sending

    async def append(self, record: NewRecord) -> RecordMetadata:
        """Append a record that belongs to no event.

        Raises:
            PublishError: The application is not running, or the broker has not confirmed.
        """
        if DRY.get():
            return RecordMetadata(record.topic, record.partition, -1)
        if self.runtime is None:
            raise errors.PublishError(
                f'{record.topic}: the application {self.id} is not running; send after its start'
            )
        return await self.runtime.append(record)


_OPTIONS = frozenset(inspect.signature(Topology.topic).parameters) - {
    'self',
    'topic',
    'more',
    'pattern',
}
