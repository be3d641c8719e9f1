"""Finding out where an agent's body reads from, before there are events."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import NoReturn

from service_scaffold import errors
from service_scaffold.clock import Clock, SystemClock
from service_scaffold.streams.agent import Agent
from service_scaffold.streams.effects import DRY
from service_scaffold.streams.event import Event
from service_scaffold.streams.mentions import Mention, mention
from service_scaffold.streams.plan import Hop, Plan, Source
from service_scaffold.streams.reading import Readable
from service_scaffold.streams.steps import looked_into
from service_scaffold.streams.stream import Stream

PROBE_S = 10.0


class Probe:
    """Reads nothing: notes what a body does until it asks for its first event.

    Attributes:
        stream: What the body iterates over.
        moved: Whether it moves events to another topic.
    """

    def __init__(self, agent: Agent) -> None:
        self.stream: Readable | None = None
        self.moved = False
        self.clock: Clock = SystemClock()
        self._agent = agent
        self._asked = asyncio.Event()

    async def until_asked(self) -> None:
        """Wait until the body has asked for an event."""
        await self._asked.wait()

    async def next(self, *, keep: bool = False, until: float | None = None) -> Event | None:
        """Wait for ever: there are no events yet."""
        self._asked.set()
        await asyncio.get_running_loop().create_future()
        return None

    def check(self, stream: Readable) -> None:
        """Note what the body iterates over."""
        self.stream = stream

    def hop(self, stream: Readable, name: str, make: Callable[[str], Hop]) -> Hop:
        """Make what moves the events."""
        self.moved = True
        return make(f'{self._agent.group}-{self._agent.name}')

    def named(self, name: str) -> Source:
        """Return the topic of a name."""
        return self._agent.topic.named(name)

    def batch_limit(self, wanted: int) -> int:
        """Change nothing."""
        return wanted

    def ack_by_hand(self) -> None:
        """Change nothing."""

    def skip(self, event: Event) -> NoReturn:
        """There is no event."""
        raise AssertionError('a probe hands out no events')

    async def ack(self, event: Event) -> NoReturn:
        """There is no event."""
        self.skip(event)


async def discover(agent: Agent) -> Plan:
    """Return what an agent reads, if need be by running its body up to its first event.

    The body is run where its code names what moves events. What it sends goes nowhere meanwhile;
    anything else that it does before its first event happens once more, as at each of its starts.
    Where it fails, or takes long, and has not moved anything, its `join` is that of a text.

    Raises:
        StreamError: The body does not ask for an event, or fails before, or does not end.
    """
    found = mention(agent.body)
    if found is Mention.NO:
        return agent.plan
    try:
        return await probe(agent)
    except _NothingMoved:
        if found is Mention.CLEAR:
            raise
        return agent.plan


class _NothingMoved(errors.StreamError):
    """The body has moved no events, and has not asked for one."""


async def probe(agent: Agent) -> Plan:
    """Run an agent's body up to its first event, end it, and return what it reads.

    Raises:
        StreamError: The body does not ask for an event, or fails before, or does not end.
    """
    reader = Probe(agent)
    body = asyncio.ensure_future(_run(agent, agent.stream(reader)))
    asked = asyncio.ensure_future(reader.until_asked())
    try:
        await asyncio.wait({body, asked}, timeout=PROBE_S, return_when=asyncio.FIRST_COMPLETED)
        error = body.exception() if body.done() and not body.cancelled() else None
    finally:
        asked.cancel()
        body.cancel()
        await asyncio.wait({body, asked}, timeout=PROBE_S)
    kind = errors.StreamError if reader.moved else _NothingMoved
    if error is not None:
        raise kind(f'{agent} fails before its first event: {error}') from error
    if reader.stream is None:
        raise kind(
            f'{agent} uses group_by, through or a join, but asks for no event within'
            f' {PROBE_S:g} s of its start; do what takes longer in a task'
        )
    if not body.done():
        raise errors.StreamError(f'{agent} does not end within {PROBE_S:g} s of being cancelled')
    return agent.plan.through(reader.stream.hops, looked_into(reader.stream.steps))


async def _run(agent: Agent, stream: Stream) -> None:
    DRY.set(True)
    result = agent.body(stream)
    if inspect.isasyncgen(result):
        try:
            async for _ in result:
                return
        finally:
            await result.aclose()
    else:
        await result
