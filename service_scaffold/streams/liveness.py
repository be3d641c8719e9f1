"""Whether the partitions that are ours move on: commits that stand still, events that take long.

A partition is stalled when its committed offset stands still although there is something to do:
records that no body has seen, an event that a body is busy with, or finished events whose
checkpoint does not come through. Time counts while the partition is ours and the broker is there,
over restarts of its task, and begins again as soon as the offset moves.

These wait by right, and count as moving on:

- A body that waits for more, with all records in its hands: a batch of `take` that is half full.
- A pause before another attempt, and each attempt: with `Decision.RETRY` a user has chosen to wait.
  An attempt that hangs is a stall, and so is a body that never gets to its first event.
- A recovery, which has a limit of its own for silence.

Events under `noack()` that nobody acknowledges are a stall like any other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.journal.base import TopicPartition
from service_scaffold.streams.lane import Lane
from service_scaffold.streams.node import Node, Spawn
from service_scaffold.streams.replies import text_of
from service_scaffold.streams.session import Session
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.task import Task

LOGGER = logging.getLogger(__name__)

LOOKS = 10
"""How often, at least, one looks within the shortest limit."""
LOOK_S = 30.0
"""How long, at most, between two looks."""


@dataclass
class Stall:
    """A partition whose committed offset stands still.

    Attributes:
        where: The partition.
        offset: What is committed.
        agent: Who holds it up; empty when it is not an agent.
        reason: What it is doing, or waiting for.
        seconds: For how long.
        restarts: How often its task was begun again because of it.
        progress: Another value of this is progress.
    """

    where: TopicPartition
    offset: int
    agent: str
    reason: str
    progress: Any
    seconds: float = 0.0
    restarts: int = 0

    def __str__(self) -> str:
        who = f'; agent {self.agent}' if self.agent else ''
        return (
            f'{self.where.topic}/{self.where.partition} stands at offset {self.offset} for'
            f' {self.seconds:.0f} s{who} {self.reason}'
        )

    def shown(self) -> dict[str, object]:
        """Return what the status says."""
        return {
            'topic': self.where.topic,
            'partition': self.where.partition,
            'agent': self.agent,
            'offset': self.offset,
            'seconds': round(self.seconds),
            'reason': self.reason,
        }


class Liveness:
    """Looks after the commits of a worker's partitions.

    Args:
        settings: `stalled_s`: then a task is begun again, and the application is not ready.
            `stuck_s`: then it ends. `processing_s`: an event in hand for so long is warned of.
        failed: Told of what the application cannot go on with.
    """

    def __init__(
        self,
        settings: StreamSettings,
        clock: Clock,
        spawn: Spawn,
        failed: Callable[[Exception], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._spawn = spawn
        self._failed = failed
        self._slow: dict[TopicPartition, Stall] = {}
        self._restarting: dict[TopicPartition, asyncio.Task[None]] = {}
        self._in_hand: dict[tuple[str, str, int], tuple[float, bool]] = {}

    @property
    def stalls(self) -> list[Stall]:
        """The partitions that have stood still for too long."""
        limit_s = min(self._settings.stalled_s, self._settings.stuck_s)
        return [stall for stall in self._slow.values() if stall.seconds >= limit_s]

    async def run(self, session: Session) -> None:
        """Look again and again, until cancelled; call it again with the next connection."""
        settings = self._settings
        shortest_s = min(settings.stalled_s, settings.stuck_s, settings.processing_s)
        while True:
            before = self._clock.monotonic()
            await self._clock.sleep(min(shortest_s / LOOKS, LOOK_S))
            try:
                await self.look(session, self._clock.monotonic() - before)
            except (errors.ScaffoldError, TimeoutError) as error:
                LOGGER.debug('Liveness is not known while the broker is away: %s', error)

    async def look(self, session: Session, passed_s: float) -> None:
        """Compare all partitions with the last look, which was `passed_s` ago."""
        tasks = list(session.tasks.values())
        self._look_at_hands(tasks)
        unread = await session.unread(p for task in tasks for p in task.partitions)
        found: dict[TopicPartition, Stall] = {}
        for task in tasks:
            for where in task.partitions:
                stall = _stall(task, where, unread=where in unread)
                if stall is not None:
                    found[where] = self._go_on(stall, passed_s)
                    self._act(session, task, found[where])
        for where, stall in self._slow.items():
            if _phase(tasks, where) == 'recovering' and where not in found:
                found[where] = stall  # it was begun again; nothing is known before it runs
            elif stall.restarts and where not in found:
                LOGGER.info('%s/%d moves on', where.topic, where.partition)
        self._slow = found

    def _go_on(self, stall: Stall, passed_s: float) -> Stall:
        before = self._slow.get(stall.where)
        if before is not None and before.progress == stall.progress:
            stall.seconds = before.seconds + passed_s
            stall.restarts = before.restarts
        return stall

    def _act(self, session: Session, task: Task, stall: Stall) -> None:
        settings = self._settings
        if stall.seconds >= settings.stuck_s:
            self._failed(errors.StreamError(f'{stall}; the limit is {settings.stuck_s:g} s'))
        elif stall.seconds >= settings.stalled_s * (stall.restarts + 1):
            stall.restarts += 1
            LOGGER.warning('%s; its task begins again at the last commit', stall)
            self._restart(session, task, stall.where)

    def _restart(self, session: Session, task: Task, where: TopicPartition) -> None:
        under_way = self._restarting.get(where)
        if under_way is None or under_way.done():
            name = f'restart of {task}'
            self._restarting[where] = self._spawn(session.restart(task), name)

    # Events in hand

    def _look_at_hands(self, tasks: list[Task]) -> None:
        """Warn, once each, of events that a body is busy with for too long."""
        now, limit_s = self._clock.monotonic(), self._settings.processing_s
        in_hand: dict[tuple[str, str, int], tuple[float, bool]] = {}
        for lane in _busy(tasks):
            event = lane.current[-1]
            key = (lane.agent.name, event.dedup_id, lane.attempts)
            since, warned = self._in_hand.get(key, (now, False))
            if now - since >= limit_s and not warned:
                LOGGER.warning('%s has %s in hand for %.0f s', lane, event.dedup_id, now - since)
                warned = True
            in_hand[key] = (since, warned)
        self._in_hand = in_hand


def _phase(tasks: list[Task], where: TopicPartition) -> str | None:
    """Return what the task of a partition is doing, None if it is not ours."""
    return next((task.phase for task in tasks if where in task.partitions), None)


def _busy(tasks: list[Task]) -> Iterator[Lane]:
    for task in tasks:
        for node in task.nodes:
            for lane in node.lanes:
                if lane.current and not lane.resting and not lane.backing_off:
                    yield lane


def _stall(task: Task, where: TopicPartition, *, unread: bool) -> Stall | None:
    """Return what there is to do in a partition, and who has to do it; None: nothing."""
    topic = where.topic
    if task.phase not in ('running', 'held') or topic not in task.committed:
        return None
    offset = task.committed[topic]
    if task.start_of(topic) > offset:
        return Stall(where, offset, '', 'its checkpoint does not come through', offset)
    if task.phase == 'held':
        return Stall(where, offset, '', 'the group does not say who has it', offset)
    for node in task.nodes:
        track = node.tracks.get(topic)
        if track is None or track.lowest > offset or not (track.pending or unread):
            continue
        stall = _holder(node, where, offset, unread=unread)
        if stall is not None:
            return stall
    return None


def _why_not_begun(node: Node, topic: str) -> str:
    if any(lane.begins_again for lane in node.lanes):
        error = node.agent.last_error
        told = '' if error is None else f'{type(error).__name__}: {text_of(error)}'
        return f'fails before its first event: {told}'
    return 'has not begun with what waits' if node.waiting(topic) else 'is not given what waits'


def _holder(node: Node, where: TopicPartition, offset: int, *, unread: bool) -> Stall | None:
    """Return what an agent does with the event at the committed offset, None if that is right."""
    name = node.agent.name
    lane = node.holder(where.topic, offset)
    if lane is None:
        attempts = tuple(lane.attempts for lane in node.lanes)
        if any(lane.backing_off and not lane.begins_again for lane in node.lanes):
            return None
        return Stall(where, offset, name, _why_not_begun(node, where.topic), (offset, attempts))
    if lane.backing_off:
        return None
    if lane.unacked:
        return Stall(where, offset, name, 'has not acknowledged it', (offset, lane.attempts))
    if lane.resting:
        if not (lane.waiting or unread):
            return None  # a batch that is half full
        return Stall(where, offset, name, 'waits for more, and is given nothing', offset)
    return Stall(where, offset, name, 'does not finish with it', (offset, lane.attempts))
