"""One agent in one partition: its lanes, and how far they have come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

from service_scaffold.clock import Clock
from service_scaffold.streams.agent import Agent
from service_scaffold.streams.effects import Unit
from service_scaffold.streams.event import Event
from service_scaffold.streams.lane import Lane
from service_scaffold.streams.merging import Merge
from service_scaffold.streams.track import Note, Track

Spawn = Callable[[Any, str], 'asyncio.Task[None]']
"""Starts a task: `spawn(coroutine, name)`."""


class Node:
    """Hands the records of one partition of its topics to the lanes of one agent.

    Attributes:
        agent: Whose lanes they are.
        tracks: By topic: what is finished.
        told: Called whenever an event is finished.
    """

    def __init__(self, agent: Agent, unit: Unit, clock: Clock) -> None:
        self.agent = agent
        self.tracks: dict[str, Track] = {}
        self.told: Callable[[], None] | None = None
        self._lanes = [Lane(agent, unit, self._finished, clock) for _ in range(agent.concurrency)]
        self._only = self._lanes[0] if len(self._lanes) == 1 else None
        self._acks = {topic.name: topic.acks for topic in agent.plan.inputs}
        self._merge = Merge(self._acks) if len(self._acks) > 1 else None

    @property
    def topics(self) -> tuple[str, ...]:
        """Names of the topics it reads."""
        return tuple(self._acks)

    def begin(self, topic: str, offset: int, note: Note) -> None:
        """Go on where the group's commit says."""
        self.tracks[topic] = note.track(self.agent.name, offset)

    def start(self, spawn: Spawn) -> None:
        """Start the lanes."""
        for lane in self._lanes:
            lane.start(spawn)

    def feed(self, topic: str, records: Sequence[Any]) -> None:
        """Take records of one of the topics, in their order."""
        track = self.tracks[topic]
        wanted = track.take_run(records)
        only = self._only
        if self._merge is not None:
            self._merge.put(topic, wanted)
            self.flow()
        elif only is not None:
            only.put(*wanted)
        else:
            for record in wanted:
                self._lane_of(record).put(record)
        if not self._acks[topic]:
            for record in records:
                track.finish(record.offset)

    def flow(self, exhausted: Collection[str] = ()) -> None:
        """Hand on the records of several topics whose turn it is.

        Args:
            exhausted: Topics that have no more records now.
        """
        if self._merge is not None:
            for record in self._merge.take(exhausted):
                self._lane_of(record).put(record)

    @property
    def lanes(self) -> Sequence[Lane]:
        """The runs of its body."""
        return self._lanes

    def holder(self, topic: str, offset: int) -> Lane | None:
        """Return the lane whose body has an event in hand, None if none has begun with it."""
        return next((lane for lane in self._lanes if lane.holds(topic, offset)), None)

    @property
    def wanted(self) -> Sequence[str]:
        """Topics without a record that hold up those of others."""
        return () if self._merge is None else self._merge.wanted

    def _lane_of(self, record: Any) -> Lane:
        key = record.key
        place = record.offset if key is None else hash(key)
        return self._lanes[place % len(self._lanes)]

    def _finished(self, event: Event) -> None:
        self.tracks[event.topic].finish(event.offset)
        if self.told is not None:
            self.told()

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.agent.name

    def floor(self, state: Any) -> int | None:
        """Return the time as of which an event in hand has written `state`, None without one."""
        floors = [
            lane.effects.floors[state] for lane in self._lanes if state in lane.effects.floors
        ]
        return min(floors, default=None)

    def runs(self, hand: object) -> bool:
        """Tell whether `hand` is one of the lanes."""
        return hand in self._lanes

    def wake(self) -> None:
        """Let the lanes begin again what a rebalance has held up."""
        for lane in self._lanes:
            lane.wake()

    def waiting(self, topic: str) -> int:
        """How many records no body has seen; of those that wait for others, only the topic's."""
        held_up = 0 if self._merge is None else self._merge.waiting(topic)
        return held_up + sum(lane.waiting for lane in self._lanes)

    @property
    def resting(self) -> bool:
        """Whether no body is busy with an event; one that pauses before another attempt is not."""
        return all(lane.resting or lane.backing_off for lane in self._lanes)

    @property
    def idle(self) -> bool:
        """Whether every body waits for an event that has not come yet."""
        return not self._merge and all(lane.idle for lane in self._lanes)

    @property
    def backing_off(self) -> bool:
        """Whether one of the lanes pauses before another attempt."""
        return any(lane.backing_off for lane in self._lanes)

    async def close(self) -> None:
        """End the lanes; what they had in hand is not finished."""
        await asyncio.gather(*(lane.close() for lane in self._lanes))
