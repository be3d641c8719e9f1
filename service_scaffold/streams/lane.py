"""One run of an agent's body, over the records of one partition or of some of its keys."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from service_scaffold import errors
from service_scaffold.backoff import Backoff
from service_scaffold.clock import Clock
from service_scaffold.streams import replies
from service_scaffold.streams.agent import Agent
from service_scaffold.streams.deadletters import Letters, Reason
from service_scaffold.streams.decision import DEFAULT, Decision
from service_scaffold.streams.effects import LANE, Effects, Unit
from service_scaffold.streams.event import Event
from service_scaffold.streams.plan import Hop
from service_scaffold.streams.stream import Stream

LOGGER = logging.getLogger(__name__)

BLAMELESS = (errors.StoreError, errors.CoPartitionError)
"""What no other attempt, and no other event, would mend: the event is not judged for it."""
TURN_EVERY = 64
"""After so many events that came without waiting, the event loop gets its turn."""


class Lane:
    """Runs the body again and again, and finishes each event when the body asks for the next.

    Args:
        agent: Whose body it runs.
        unit: The partition it works for.
        finished: Told of each event that is done with.
        clock: What pauses are measured with.

    Attributes:
        current: The events in hand: one, or a batch.
        effects: What handling them has done so far.
        attempts: How often they have failed.
        backing_off: Whether it pauses before the next attempt.
    """

    def __init__(
        self, agent: Agent, unit: Unit, finished: Callable[[Event], None], clock: Clock
    ) -> None:
        self.agent = agent
        self.unit = unit
        self.clock = clock
        self.current: list[Event] = []
        self.effects = Effects()
        self.attempts = 0
        self.backing_off = False
        self._spare = Effects()
        self._finished = finished
        self._letters = Letters(agent.name, agent.group, clock)
        self._queue: deque[Any] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._resting = True
        self._manual = False
        self._unacked: dict[str, Event] = {}
        self._singly = 0
        self._since_turn = 0
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._restarts = 0

    def __str__(self) -> str:
        return f'agent {self.agent.name}'

    # Fed by its partition

    def put(self, *records: Any) -> None:
        """Take records for the body."""
        self._queue.extend(records)
        self.wake()

    def wake(self) -> None:
        """Have a look: there is a record, or nothing holds it up any more."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def start(self, spawn: Callable[[Any, str], asyncio.Task[None]]) -> None:
        """Start the body."""
        self._task = spawn(self._run(), str(self))

    @property
    def idle(self) -> bool:
        """Whether the body waits for an event, and has finished all that it was given."""
        return self._resting and not self._queue

    @property
    def resting(self) -> bool:
        """Whether no event is being handled: the body waits for one, or for another attempt."""
        return self._resting or self.backing_off

    @property
    def waiting(self) -> int:
        """How many records the body has not seen."""
        return len(self._queue)

    @property
    def unacked(self) -> bool:
        """Whether there are events that the body has to acknowledge."""
        return bool(self._unacked)

    def holds(self, topic: str, offset: int) -> bool:
        """Whether the body has this event, and has not finished with it."""
        held = (*self.current, *self._unacked.values())
        return any(event.offset == offset and event.topic == topic for event in held)

    async def close(self) -> None:
        """End the body; what it had in hand is not finished."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._queue.clear()
        self.current.clear()

    # Asked by the body's stream

    @property
    def event(self) -> Event | None:
        """The event in hand: of several the last one."""
        if self.current:
            return self.current[-1]
        return next(reversed(self._unacked.values()), None)

    @property
    def effective(self) -> bool:
        """Whether what is sent and written now belongs to an event."""
        return bool(self.current) or self._manual

    async def next(self, *, keep: bool = False, until: float | None = None) -> Event | None:
        """Return the next event; those in hand are finished before, unless `keep`.

        Args:
            until: Monotonic seconds of the clock after which None is returned.
        """
        if not keep and (self.current or self.effects):
            if self.effects.first:
                await self.effects.complete()
            self.finish()
        self._since_turn += 1
        if self._since_turn >= TURN_EVERY:
            self._since_turn = 0
            await asyncio.sleep(0)
        while True:
            while self._queue and not self.unit.held:
                event = self._begin(self._queue.popleft())
                if event is not None:
                    return event
            self._since_turn = 0
            if not await self._rest(until):
                return None

    def _begin(self, record: Any) -> Event | None:
        try:
            event = self.agent.decode(record, self)
        except errors.DecodeError as error:
            self._bury_undecodable(record, error)
            return None
        if self._manual:
            self._unacked[event.dedup_id] = event
        else:
            self.current.append(event)
        return event

    def _bury_undecodable(self, record: Any, error: errors.DecodeError) -> None:
        event = Event(record.key, record.value, record, self)
        LOGGER.warning('%s: %s cannot be decoded, dead-lettered: %s', self, event.dedup_id, error)
        effects = Effects()
        effects.sends.append(self._letters.undecodable(record, error))
        self.agent.stats.dead_lettered += 1
        replies.refuse(effects, [event], error)
        self.unit.apply(effects)
        self._finished(event)

    async def _rest(self, until: float | None) -> bool:
        """Wait for a record; False when `until` has come."""
        alarm: asyncio.Future[None] | None = None
        self._waiter = asyncio.get_running_loop().create_future()
        if until is not None:
            left_s = until - self.clock.monotonic()
            if left_s <= 0:
                return False
            alarm = asyncio.ensure_future(self.clock.sleep(left_s))
            alarm.add_done_callback(lambda _: self.wake())
        self._resting = True
        self.agent.rested()
        try:
            await self._waiter
        finally:
            self._resting = False
            if alarm is not None:
                alarm.cancel()
        return until is None or bool(self._queue) or self.clock.monotonic() < until

    def check(self, stream: Stream) -> None:
        """Make sure that the body iterates over the last stream that it has made.

        Raises:
            StreamError: It moved events elsewhere, and does not look there.
        """
        if len(stream.hops) != len(self.agent.plan.hops):
            raise errors.StreamError(
                f'{self} must iterate over what its last group_by, through or join has returned'
            )

    def hop(self, stream: Stream, name: str, make: Callable[[str], Hop]) -> Hop:
        """Return the hop that was found when the application started.

        Raises:
            StreamError: The body has not made it then.
        """
        place = len(stream.hops)
        hops = self.agent.plan.hops
        if place >= len(hops) or hops[place].name != name:
            raise errors.StreamError(
                f'{self} calls group_by, through or join ({name}) where the start could not see it;'
                ' call it in the function itself, before its first event, and each time the same'
            )
        return hops[place]

    def batch_limit(self, wanted: int) -> int:
        """Return how many events a batch may have: one, while a failed batch is taken apart."""
        return 1 if self._singly else wanted

    def skip(self, event: Event) -> None:
        """Finish an event that the body is not to see."""
        self.current.remove(event)
        self._finished(event)

    def finish(self) -> None:
        """Finish what is in hand: its effects count from now on."""
        effects, self.effects = self.effects, self._spare
        if effects:
            self.unit.apply(effects)
        effects.clear()
        self._spare = effects
        current = self.current
        for event in current:
            self._finished(event)
        self.agent.stats.processed += len(current)
        self._singly = max(0, self._singly - len(current))
        current.clear()
        self.attempts = 0
        self._restarts = 0

    def ack_by_hand(self) -> None:
        """From now on events are finished by `ack` alone."""
        self._manual = True

    async def ack(self, event: Event) -> None:
        """Finish one event."""
        if event.dedup_id not in self._unacked:
            return  # it is finished when the body asks for the next one; or it was acked before
        await self.effects.complete()
        self._unacked.pop(event.dedup_id, None)
        effects, self.effects = self.effects, Effects()
        if effects:
            self.unit.apply(effects)
        self.agent.stats.processed += 1
        self._finished(event)

    # The body

    async def _run(self) -> None:
        LANE.set(self)
        while not self._closed:
            try:
                await self._run_body()
            except asyncio.CancelledError:
                if self._closed or _is_cancelled():
                    raise
                await self._failed(errors.StreamError(f'{self}: the body has cancelled itself'))
            except Exception as error:  # noqa: BLE001 - judged by the agent's error hook
                await self._failed(error)
        self._resting = True

    async def _run_body(self) -> None:
        result = self.agent.call(self)
        if inspect.isasyncgen(result):
            try:
                async for value in result:
                    await self.agent.emit(self, value)
            finally:
                await result.aclose()
        else:
            await result
        if self.current or self.effects:
            await self.effects.complete()
            self.finish()
        else:  # it has ended without taking anything: do not run it in a circle
            await self._rest(None)

    async def _failed(self, error: Exception) -> None:
        self.effects = Effects()
        self.agent.stats.failed += 1
        self.agent.last_error = error
        self._blame_unacked()
        if isinstance(error, BLAMELESS):
            self._take_back()
            self._closed = True
            self.unit.stop(error)
            return
        if not self.current:
            await self._pause_after_failed_start(error)
            return
        self.attempts += 1
        decision = await self._decide(error)
        if decision.kind == 'retry' and self._may_retry(decision):
            LOGGER.warning(
                '%s: attempt %d on %s failed, trying again',
                self,
                self.attempts,
                self._label(),
                exc_info=error,
            )
            self._take_back()
            self.agent.stats.retried += 1
            await self._back_off(decision.pause_s(self.attempts))
        elif decision.kind == 'retry' and len(self.current) > 1:
            self._singly = len(self.current)  # to find the one that is to blame
            self._take_back()
            self.attempts = 0
        else:
            self._give_up(decision, error)

    def _blame_unacked(self) -> None:
        """Under acknowledgement by hand: judge the last event taken, hand out the others again."""
        if self._unacked:
            *others, last = self._unacked.values()
            self._unacked.clear()
            self._queue.extendleft(event.message for event in reversed(others))
            self.current.append(last)

    def _may_retry(self, decision: Decision) -> bool:
        return decision.max is None or self.attempts < decision.max

    async def _decide(self, error: Exception) -> Decision:
        try:
            return await self.agent.on_error.decide(self.agent, error, self.current[-1])
        except Exception:
            LOGGER.exception('%s: on_error itself has failed', self)
            return DEFAULT

    def _give_up(self, decision: Decision, error: Exception) -> None:
        stats = self.agent.stats
        if decision.kind == 'stop':
            LOGGER.critical('%s stops the application at %s', self, self._label(), exc_info=error)
            self._take_back()
            self._closed = True
            self.unit.stop(error)
            return
        if decision.kind == 'skip':
            LOGGER.warning('%s: %s is skipped', self, self._label(), exc_info=error)
            stats.skipped += len(self.current)
        else:
            rejected = decision.kind == 'dead_letter'
            reason: Reason = 'rejected' if rejected else 'retries_exhausted'
            LOGGER.error('%s: %s is dead-lettered', self, self._label(), exc_info=error)
            self.effects.sends += [
                self._letters.letter(event.message, reason, error, self.attempts)
                for event in self.current
            ]
            stats.dead_lettered += len(self.current)
        replies.refuse(self.effects, self.current, error)
        stats.processed -= len(self.current)
        self.finish()

    def _take_back(self) -> None:
        self._queue.extendleft(event.message for event in reversed(self.current))
        self.current.clear()

    async def _pause_after_failed_start(self, error: Exception) -> None:
        self._restarts += 1
        LOGGER.error('%s failed before its first event, starts again', self, exc_info=error)
        await self._back_off(Backoff().delay(self._restarts))

    async def _back_off(self, delay_s: float) -> None:
        self.backing_off = True
        try:
            await self.clock.sleep(delay_s)
        finally:
            self.backing_off = False

    def _label(self) -> str:
        first, last = self.current[0], self.current[-1]
        return first.dedup_id if first is last else f'{first.dedup_id} to {last.dedup_id}'


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
