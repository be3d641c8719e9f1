"""Trying one agent by itself: no log, no other agents, a clock that stands still."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from service_scaffold import errors
from service_scaffold.clock import ManualClock
from service_scaffold.streams.agent import Agent
from service_scaffold.streams.channel import ChannelRecord
from service_scaffold.streams.effects import Effects
from service_scaffold.streams.event import Event
from service_scaffold.streams.lane import Lane
from service_scaffold.streams.probe import discover
from service_scaffold.streams.state import PartitionState
from service_scaffold.streams.stores.memory import MemoryBackend
from service_scaffold.streams.topic import Topic

HANDLING_S = 10.0
"""Real seconds after which a body that is still busy is given up."""


class Trial:
    """An agent that is given values by hand; made by `agent.test_context()`.

    Values are encoded and decoded as on a broker, sinks are called, and tables can be used. What
    goes to topics is kept instead of sent.

    Attributes:
        agent: Which one.
        clock: Stands still until `advance`, or until a retry is waited for.
        results: What the body has yielded, in order, without that of failed attempts.
        sent: What it and its sinks have sent to topics, and its dead letters.
    """

    def __init__(self, agent: Agent, topics: Mapping[str, Topic]) -> None:
        self.agent = agent
        self.clock = ManualClock()
        self.results: list[Any] = []
        self.sent: list[Event] = []
        self._topics = topics
        self._states: dict[Any, PartitionState] = {}
        self._stores = MemoryBackend()
        self._offsets = itertools.count()
        self._stopped: Exception | None = None
        self._changed = asyncio.Event()
        self._lane = Lane(agent, self, lambda event: None, self.clock)

    # What tests do

    async def put(
        self,
        value: Any = None,
        key: Any = None,
        *,
        timestamp: float | None = None,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> Event:
        """Give the agent a value, and wait until it has handled it, or waits for more.

        Args:
            timestamp: Epoch seconds, default the clock's.

        Returns:
            The event, as the body sees it; its offset counts from 0.

        Raises:
            Exception: What the agent has failed with for the last time.
            DecodeError: The value is not of the topic's type.
            TimeoutError: It is still busy after 10 s.
        """
        at = self.clock.time() if timestamp is None else timestamp
        root = self.agent.plan.root
        source: Any = root.members[0] if root.members else root
        record = self._numbered(source.record(key, value, None, at, headers))
        for hop in self.agent.plan.hops:
            moved = await self._moved(hop, source.decode(record))
            if moved is None:
                return source.decode(record)  # type: ignore[no-any-return]
            source, record = hop.target, self._numbered(moved, record.offset)
        event = self.agent.decode(record, self._lane)
        self._lane.put(record)
        await self._handled()
        return event

    async def advance(self, seconds: float) -> None:
        """Let time pass, and wait until the agent has done what is due."""
        await self.clock.advance(seconds)
        await self._handled()

    # How

    def _numbered(self, record: Any, offset: int | None = None) -> ChannelRecord:
        number = next(self._offsets) if offset is None else offset
        return ChannelRecord(
            record.topic,
            record.value,
            record.key,
            record.headers,
            int(self.clock.time() * 1000) if record.timestamp is None else record.timestamp,
            offset=number,
        )

    async def _moved(self, hop: Any, event: Event) -> Any:
        """Return the record that a hop makes of an event, None if it is filtered out."""
        if hop.joins:
            raise errors.StreamError(
                f'Agent {self.agent} joins streams, which takes more than one; use app.test()'
            )
        for step in hop.steps:
            seen = await step(event)
            if seen is None:
                return None
            event = seen
        key = event.key if hop.key is None else hop.key(event)
        if inspect.isawaitable(key):
            key = await key
        return hop.target.record(key, event.value, None, event.timestamp, event.headers)

    async def _handled(self) -> None:
        stats = self.agent.stats
        given_up = stats.skipped + stats.dead_lettered
        try:
            async with asyncio.timeout(HANDLING_S):
                while not self._lane.idle and self._stopped is None:
                    await self._step()
        except TimeoutError:
            raise TimeoutError(
                f'Agent {self.agent} has not finished within {HANDLING_S:g} s'
            ) from None
        if self._stopped is not None:
            raise self._stopped
        if stats.skipped + stats.dead_lettered > given_up and self.agent.last_error is not None:
            raise self.agent.last_error

    async def _step(self) -> None:
        due = self.clock.next_due
        if self._lane.backing_off and due is not None:
            await self.clock.advance(max(0.0, due - self.clock.time()))
            return
        self._changed.clear()
        try:
            async with asyncio.timeout(0.01):  # a pause may begin meanwhile, which nobody tells
                await self._changed.wait()
        except TimeoutError:
            return

    def note(self, value: Any) -> None:
        """Take what the body yields: it counts when the event is finished."""
        self._lane.effects.then.append(partial(self.results.append, value))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Trial]:
        """Run the body meanwhile; the agent is left as it was."""
        agent = self.agent
        before = agent.plan, agent.on_rest, agent.sinks
        agent.plan = await discover(agent)
        agent.on_rest = self._changed.set
        agent.sinks = [self.note, *agent.sinks]
        try:
            self._lane.start(lambda coro, name: asyncio.create_task(coro, name=name))
            yield self
        finally:
            await self._lane.close()
            agent.plan, agent.on_rest, agent.sinks = before
            for table in self._states:
                table.here.pop(0, None)
            self._stores.close()

    # Asked by the lane

    @property
    def held(self) -> bool:
        return False

    def state(self, table: Any) -> PartitionState:
        state = self._states.get(table)
        if state is None:
            store = self._stores.open(table.name, 0)
            state = PartitionState(table.name, 0, store, None)
            if table.keeper(state) is not None:
                raise errors.StreamError(f'Table {table.name} goes by time; use app.test()')
            self._states[table] = table.here[0] = state
        return state

    def apply(self, effects: Effects) -> None:
        for state, changes in effects.writes.items():
            state.apply(changes)
            state.take()
            state.settle(b'')  # so that the test sees it
        for record in effects.sends:
            topic = self._topics.get(record.topic)
            numbered = self._numbered(record, len(self.sent))
            self.sent.append(_event(numbered) if topic is None else topic.decode(numbered))
        for call in effects.then:
            call()

    def stop(self, error: Exception) -> None:
        self._stopped = error
        self._changed.set()


def _event(record: ChannelRecord) -> Event:
    return Event(record.key, record.value, record)


def trials(topics: Mapping[str, Topic]) -> Callable[[Agent], Any]:
    """Return what makes a trial of an agent, given the declared topics."""
    return lambda agent: Trial(agent, topics).running()
