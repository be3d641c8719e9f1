"""Agents of channels: they run once per worker, whatever the broker does."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NoReturn

from service_scaffold import errors
from service_scaffold.backoff import Backoff
from service_scaffold.clock import Clock
from service_scaffold.journal.base import NewRecord
from service_scaffold.streams import deadletters, refusals
from service_scaffold.streams.agent import Agent
from service_scaffold.streams.channel import Channel, ChannelRecord
from service_scaffold.streams.effects import Effects
from service_scaffold.streams.event import Event
from service_scaffold.streams.lane import Lane
from service_scaffold.streams.node import Spawn
from service_scaffold.streams.rpc import HERE

LOGGER = logging.getLogger(__name__)

CHUNK = 64
"""How many values of a channel its lanes have before them."""
OUTGOING = 10_000
"""How many records may wait to be appended, before an agent has to wait."""
BATCH = 500
LOOK_S = 0.02


class Outgoing:
    """Records that agents of channels have sent, on their way to the log.

    They are kept until the broker has confirmed them: there is nothing that they could be sent
    again from. Only what the broker would refuse each time is given up, and said in the log. Those
    of one batch are on their way at once.

    Args:
        append: Appends one record.
    """

    def __init__(self, append: Callable[[NewRecord], Awaitable[Any]], clock: Clock) -> None:
        self._append = append
        self._clock = clock
        self._records: deque[NewRecord] = deque()
        self._known: set[str] = set()
        self._fresh = asyncio.Event()
        self.below: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._records)

    def put(self, records: Iterable[NewRecord]) -> None:
        """Append these, after all that was put before."""
        self._records.extend(records)
        self._fresh.set()

    async def pump(self) -> None:
        """Append until cancelled."""
        attempt = 0
        while True:
            await self._fresh.wait()
            self._fresh.clear()
            while self._records:
                failure = await self._append_some()
                if failure is None:
                    attempt = 0
                    continue
                attempt += 1
                if attempt == 1:
                    LOGGER.warning('Records of channels wait: %s', failure)
                await self._clock.sleep(Backoff().delay(attempt))

    async def _append_some(self) -> BaseException | None:
        """Append the first records; keep, and return the error of, those that are not confirmed."""
        batch = self._batch()
        done = await asyncio.gather(*map(self._append, batch), return_exceptions=True)
        failed = []
        for record, outcome in zip(batch, done, strict=True):
            if isinstance(outcome, Exception) and refusals.is_final(outcome):
                LOGGER.error('A record of a channel is given up, for %s: %s', record.topic, outcome)
            elif isinstance(outcome, BaseException):
                failed.append((record, outcome))
        for _ in batch:
            self._records.popleft()
        self._records.extendleft(record for record, _ in reversed(failed))
        self._known.update(record.topic for record in batch)
        if len(self._records) < OUTGOING:
            self.below()
        return failed[0][1] if failed else None

    def _batch(self) -> list[NewRecord]:
        """Return the first records; a topic's first one alone, which may have to make the topic."""
        found: list[NewRecord] = []
        for record in self._records:
            if record.topic not in self._known:
                return found or [record]
            found.append(record)
            if len(found) == BATCH:
                break
        return found


class Inlet:
    """Runs one agent over its channel.

    Args:
        outgoing: Takes what it sends to topics.
        answered: Takes the answers to questions that came over the channel.
        failed: Told when an error hook wants the application to end.

    Attributes:
        agent: Which one.
        lanes: The runs of its body.
    """

    def __init__(
        self,
        agent: Agent,
        channel: Channel,
        clock: Clock,
        outgoing: Outgoing,
        answered: Callable[[Any], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.agent = agent
        self._channel = channel
        self._outgoing = outgoing
        self._answered = answered
        self._failed = failed
        self.lanes = [Lane(agent, self, self._finished, clock) for _ in range(agent.concurrency)]
        self._handed: dict[int, ChannelRecord] = {}
        self._draining = False
        agent.on_rest = self._feed
        self._reader = channel.open(agent.name, self._feed, self._taken)

    def start(self, spawn: Spawn) -> None:
        """Start the lanes."""
        for lane in self.lanes:
            lane.start(spawn)
        self._feed()

    def _feed(self) -> None:
        """Hand values to the lanes, as long as they have few before them."""
        queue = self._reader.queue
        while queue and not self._draining and self._taken() < CHUNK:
            record = queue.popleft()
            self._handed[record.offset] = record
            place = record.offset if record.key is None else hash(record.key)
            self.lanes[place % len(self.lanes)].put(record)
        self._channel.wake()

    def _taken(self) -> int:
        return sum(lane.waiting for lane in self.lanes)

    def _finished(self, event: Event) -> None:
        self._handed.pop(event.offset, None)
        self._feed()

    def drain(self) -> None:
        """Begin nothing new."""
        self._draining = True

    def wake(self) -> None:
        """Go on: there is room for what the agent sends."""
        for lane in self.lanes:
            lane.wake()

    @property
    def resting(self) -> bool:
        """Whether no body is busy with a value."""
        return all(lane.resting for lane in self.lanes)

    @property
    def idle(self) -> bool:
        """Whether every body waits for a value that has not come yet."""
        return not self._reader.queue and all(lane.idle for lane in self.lanes)

    @property
    def backing_off(self) -> bool:
        """Whether a body pauses before another attempt."""
        return any(lane.backing_off for lane in self.lanes)

    async def close(self) -> None:
        """End the lanes; what is not finished goes back into the channel."""
        self._draining = True
        await asyncio.gather(*(lane.close() for lane in self.lanes))
        self._reader.close(self._handed.values())

    # Asked by the lanes

    @property
    def held(self) -> bool:
        return self._draining or len(self._outgoing) >= OUTGOING

    def state(self, table: Any) -> NoReturn:
        raise errors.OutsideAgent(
            f'Agent {self.agent.name} reads a channel, which has no partitions, so that it has no'
            f' part of table {table.name}; send to a topic, and use the table in its agent'
        )

    def apply(self, effects: Effects) -> None:
        for record in effects.sends:
            if record.topic == HERE:
                self._answered(record)
        dead = deadletters.store_of(self._channel.name)
        self._outgoing.put(
            self._encoded(record) if record.topic == dead else record
            for record in effects.sends
            if record.topic != HERE
        )
        for call in effects.then:
            call()

    def _encoded(self, letter: NewRecord) -> NewRecord:
        """Return a dead letter with bytes instead of objects."""
        return letter._replace(
            key=_bytes(self._channel.encode_key, letter.key),
            value=_bytes(self._channel.encode_value, letter.value),
        )

    def stop(self, error: Exception) -> None:
        self._failed(error)


class Inlets:
    """All agents of channels of one application.

    Args:
        agents: With the channel that each reads.
    """

    def __init__(
        self,
        agents: Iterable[Agent],
        clock: Clock,
        spawn: Spawn,
        append: Callable[[NewRecord], Awaitable[Any]],
        answered: Callable[[Any], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._outgoing = Outgoing(append, clock)
        self._outgoing.below = self._wake
        self._inlets: list[Inlet] = []
        self._pump: asyncio.Task[None] | None = None
        channels: dict[int, Channel] = {}
        for agent in agents:
            channel: Any = agent.plan.input
            channels[id(channel)] = channel
            self._inlets.append(Inlet(agent, channel, clock, self._outgoing, answered, failed))
        for channel in channels.values():
            channel.only_agents()
        if self._inlets:
            self._pump = spawn(self._outgoing.pump(), 'sending of channels')
        for inlet in self._inlets:
            inlet.start(spawn)

    def _wake(self) -> None:
        for inlet in self._inlets:
            inlet.wake()

    @property
    def lanes(self) -> list[Lane]:
        """All runs of bodies."""
        return [lane for inlet in self._inlets for lane in inlet.lanes]

    @property
    def _busy(self) -> bool:
        return bool(self._outgoing) or not all(inlet.resting for inlet in self._inlets)

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do until another value comes, or time passes."""
        return not self._outgoing and all(inlet.idle for inlet in self._inlets)

    @property
    def backing_off(self) -> bool:
        """Whether a body pauses before another attempt."""
        return any(inlet.backing_off for inlet in self._inlets)

    async def drain(self, limit_s: float) -> None:
        """Begin nothing new, and let what runs finish, with what it has sent, at most so long."""
        for inlet in self._inlets:
            inlet.drain()
        try:
            async with asyncio.timeout(limit_s):
                while self._busy:  # noqa: ASYNC110 - there is no hurry
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            LOGGER.warning('Agents of channels were busy for more than %g s', limit_s)

    async def close(self) -> None:
        """End the agents; what they have not finished stays in the channels."""
        await asyncio.gather(*(inlet.close() for inlet in self._inlets))
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait({self._pump})
        if self._outgoing:
            LOGGER.error('%d records of channels were not sent', len(self._outgoing))


def _bytes(encode: Callable[[Any], bytes | None], value: Any) -> bytes | None:
    try:
        return encode(value)
    except errors.EncodeError:  # a channel may carry anything
        return repr(value).encode()
