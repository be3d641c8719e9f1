"""What becomes of an event whose handling has failed: tried again, given up, or the end."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from service_scaffold import errors
from service_scaffold.backoff import Backoff
from service_scaffold.streams import replies
from service_scaffold.streams.agent import Agent
from service_scaffold.streams.deadletters import Letters, Reason
from service_scaffold.streams.decision import Decision
from service_scaffold.streams.effects import Effects, Unit
from service_scaffold.streams.event import Event

LOGGER = logging.getLogger(__name__)

BLAMELESS = (errors.StoreError, errors.CoPartitionError)
"""What no other attempt, and no other event, would mend: the event is not judged for it."""


class Judged(Protocol):
    """A run of a body; see `Lane`."""

    agent: Agent
    unit: Unit
    current: list[Event]
    effects: Effects
    attempts: int

    def stop(self, error: Exception) -> None: ...

    def take_back(self) -> None: ...

    def take_apart(self) -> None: ...

    def give_up(self) -> None: ...

    async def back_off(self, delay_s: float) -> None: ...


class Judge:
    """Asks the agent's error hook, and does what it says.

    Args:
        lane: Whose events are judged.
        letters: Writes the dead letters.

    Attributes:
        of_start: Whether what it has judged last was no event's fault: the body did not get to one.
    """

    def __init__(self, lane: Judged, letters: Letters) -> None:
        self._lane = lane
        self._letters = letters
        self.of_start = False
        self._failed_starts = 0
        self._processed = 0

    async def hear(self, error: Exception) -> None:
        """Judge what the lane has in hand; its effects are dropped already."""
        agent = self._lane.agent
        agent.stats.failed += 1
        agent.stats.last_error = error
        if isinstance(error, BLAMELESS):
            self._lane.stop(error)
        elif self._lane.current:
            self.of_start = False
            await self._judge(error)
        else:
            self.of_start = True
            await self._judge_start(error)

    async def _judge(self, error: Exception) -> None:
        lane, label = self._lane, _label(self._lane.current)
        lane.attempts += 1
        decision = await self._decide(error, lane.current[-1])
        if decision.allows_retry(lane.attempts):
            LOGGER.warning(
                '%s: attempt %d on %s failed, trying again',
                lane,
                lane.attempts,
                label,
                exc_info=error,
            )
            lane.take_back()
            lane.agent.stats.retried += 1
            await lane.back_off(decision.pause_s(lane.attempts))
        elif len(lane.current) > 1 and decision.kind != 'stop':
            lane.take_apart()  # to find the one that is to blame
        else:
            self._give_up(decision.then or decision, error, label)

    async def _decide(self, error: Exception, event: Event | None) -> Decision:
        agent = self._lane.agent
        try:
            return await agent.on_error.decide(agent, error, event)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            LOGGER.error('%s: on_error itself has failed: it was cancelled', self._lane)
        except Exception:
            LOGGER.exception('%s: on_error itself has failed', self._lane)
        return agent.on_error.default

    async def _judge_start(self, error: Exception) -> None:
        """Start again, unless the hook wants no more; there is no event to be judged."""
        lane, stats = self._lane, self._lane.agent.stats
        lane.take_back()
        if stats.processed != self._processed:  # it has worked meanwhile
            self._processed, self._failed_starts = stats.processed, 0
        self._failed_starts += 1
        if (await self._decide(error, None)).kind == 'stop':
            LOGGER.critical('%s stops the application', lane, exc_info=error)
            lane.stop(error)
            return
        LOGGER.error('%s failed before its first event, starts again', lane, exc_info=error)
        await lane.back_off(Backoff().delay(self._failed_starts))

    def _give_up(self, decision: Decision, error: Exception, label: str) -> None:
        """Stop, skip the event in hand, or let its dead letter take the place of its effects."""
        lane, stats = self._lane, self._lane.agent.stats
        if decision.kind == 'stop':
            LOGGER.critical('%s stops the application at %s', lane, label, exc_info=error)
            lane.stop(error)
            return
        (event,) = lane.current
        if decision.kind == 'skip':
            LOGGER.warning('%s: %s is skipped', lane, label, exc_info=error)
            replies.refuse(lane.effects, [event], error)
            stats.skipped += 1
        else:
            LOGGER.error('%s: %s is dead-lettered', lane, label, exc_info=error)
            reason: Reason = 'retries_exhausted' if decision.kind == 'retry' else 'rejected'
            self._letters.bury(lane.effects, event, reason, error, lane.attempts)
            stats.dead_lettered += 1
        lane.give_up()

    def bury_undecodable(self, event: Event, error: Exception) -> None:
        """Write the letter of a record that no body has seen."""
        lane = self._lane
        LOGGER.warning('%s: %s cannot be decoded, dead-lettered: %s', lane, event.dedup_id, error)
        effects = Effects()
        self._letters.bury_undecodable(effects, event, error)
        lane.unit.apply(effects)
        lane.agent.stats.dead_lettered += 1


def _label(events: list[Event]) -> str:
    first, last = events[0], events[-1]
    return first.dedup_id if first is last else f'{first.dedup_id} to {last.dedup_id}'


def is_cancelled() -> bool:
    """Tell whether the current task is to end; else what it awaits was cancelled by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
