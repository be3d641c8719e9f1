"""One run of an agent's body, over the records of one partition or of some of its keys."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.streams import replies
from service_scaffold.streams.agent import Agent
from service_scaffold.streams.bell import Bell
from service_scaffold.streams.deadletters import Letters
from service_scaffold.streams.effects import LANE, Effects, Unit
from service_scaffold.streams.event import Event
from service_scaffold.streams.inhand import InHand
from service_scaffold.streams.judge import Judge, is_cancelled
from service_scaffold.streams.plan import Hop, Source
from service_scaffold.streams.reading import Readable

LOGGER = logging.getLogger(__name__)

CLOSE_S = 1.0
"""How long the body may take to end when its lane is closed."""
DROPPED = 'The question is dropped on its way to {}, by a filter or a join'
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
        self._hand = InHand()
        self.current = self._hand.current
        self.effects = Effects()
        self.attempts = 0
        self.backing_off = False
        self._spare = Effects()
        self._finished = finished
        self._judge = Judge(self, Letters(agent.name, agent.group, clock, agent.refusals))
        self._queue: deque[Any] = deque()
        self._bell = Bell(clock)
        self._resting = True
        self._singly = 0
        self._since_turn = 0
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._refused = False

    def __str__(self) -> str:
        return f'agent {self.agent.name}'

    # Fed by its partition

    def put(self, *records: Any) -> None:
        """Take records for the body."""
        self._queue.extend(records)
        self.wake()

    def wake(self) -> None:
        """Have a look: there is a record, or nothing holds it up any more."""
        self._bell.ring()

    def start(self, spawn: Callable[[Any, str], asyncio.Task[None]]) -> None:
        """Start the body."""
        self._task = spawn(self._run(), str(self))
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """See that it does not end without a word: its partition would stand still."""
        if self._closed:
            return
        error = None if task.cancelled() else task.exception()
        if not isinstance(error, Exception):  # a cancellation that nobody here has asked for
            error = errors.StreamError(f'{self} has ended: {error or "it was cancelled"!r}')
        self.unit.stop(error)

    @property
    def idle(self) -> bool:
        """Whether the body waits for an event, and has finished all that it was given."""
        return self._resting and not self._queue

    @property
    def resting(self) -> bool:
        """Whether no event is being handled: the body waits for one, or for another attempt."""
        return self._resting or self.backing_off

    @property
    def begins_again(self) -> bool:
        """Whether it pauses because the body has failed before its first event."""
        return self.backing_off and self._judge.of_start

    @property
    def waiting(self) -> int:
        """How many records the body has not seen."""
        return len(self._queue)

    @property
    def in_flight(self) -> int:
        """How many events the body has in hand, to be acknowledged by hand or not."""
        return len(self._hand.unfinished)

    @property
    def unacked(self) -> bool:
        """Whether there are events that the body has to acknowledge."""
        return self._hand.unacked

    def holds(self, topic: str, offset: int) -> bool:
        """Whether the body has this event, and has not finished with it."""
        held = self._hand.unfinished
        return any(event.offset == offset and event.topic == topic for event in held)

    async def close(self) -> None:
        """End the body; what it had in hand is not finished.

        A body that refuses to end is left behind, and nothing that it still does counts.
        """
        self._closed = True
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()
            _, late = await asyncio.wait({self._task}, timeout=CLOSE_S)
            if late:
                LOGGER.error('%s does not end when it is cancelled, and is left behind', self)
                return
        self.current.clear()

    # Asked by the body's stream

    @property
    def event(self) -> Event | None:
        """The event in hand: of several the last one."""
        return self.in_hand[-1] if self.in_hand else None

    @property
    def in_hand(self) -> list[Event]:
        """What the body was given last: an event, or a batch."""
        return self._hand.last_given

    @property
    def effective(self) -> bool:
        """Whether what is sent and written now belongs to an event."""
        return bool(self.current) or self._hand.by_hand or self._closed

    async def next(self, *, keep: bool = False, until: float | None = None) -> Event | None:
        """Return the next event; those in hand are finished before, unless `keep`.

        Args:
            until: Monotonic seconds of the clock after which None is returned.
        """
        if self._closed:
            await self._refuse()
        if not keep and (self.current or self.effects or self._hand.by_hand):
            if (self.effects.first or self.agent.refusals) and not self._hand.unacked:
                await self._complete()
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

    async def _refuse(self) -> None:
        """Give nothing to a body that goes on after its end; it must not ask in a circle."""
        if not self._refused:
            self._refused = True
            raise asyncio.CancelledError
        await asyncio.get_running_loop().create_future()

    async def _complete(self) -> None:
        """Do what is to be done before events are finished; what it sends has to be taken."""
        await self.effects.complete()
        self.agent.refusals.check(self.effects)

    def _begin(self, record: Any) -> Event | None:
        try:
            event = self.agent.decode(record, self)
        except Exception as error:  # noqa: BLE001 - a type of somebody's own may raise anything
            event = Event(record.key, record.value, record, self)
            self._judge.bury_undecodable(event, error)
            self._finished(event)
            return None
        self._hand.add(event)
        return event

    async def _rest(self, until: float | None) -> bool:
        """Wait for a record; False when `until` has come."""
        if until is not None and until <= self.clock.monotonic():
            return False
        self._bell.expect()
        self._resting = True
        self.agent.rested()
        try:
            await self._bell.wait(until)
        finally:
            self._resting = False
        return until is None or bool(self._queue) or self.clock.monotonic() < until

    def check(self, stream: Readable) -> None:
        """Make sure that the body iterates over the last stream that it has made.

        Raises:
            StreamError: It moved events elsewhere, and does not look there.
        """
        self.agent.check_hops(len(stream.hops))

    def hop(self, stream: Readable, name: str, make: Callable[[str], Hop]) -> Hop:
        """Return the hop that was found when the application started.

        Raises:
            StreamError: The body has not made it then.
        """
        return self.agent.hop(len(stream.hops), name)

    def named(self, name: str) -> Source:
        """Return the topic of a name."""
        return self.agent.topic.named(name)

    def batch_limit(self, wanted: int) -> int:
        """Return how many events a batch may have: one, while a failed batch is taken apart."""
        return 1 if self._singly else wanted

    def skip(self, event: Event) -> None:
        """Finish an event that the body is not to see: at once, if it has had no effects."""
        self._hand.skip(event)
        if self.agent.alone:
            replies.refuse(self.effects, [event], errors.NoResponder(DROPPED.format(self)))
        if not (self.current or self._hand.by_hand):
            self.attempts = 0
        if not self.effects:
            self._finish_skipped()

    def _finish_skipped(self) -> None:
        for event in self._hand.take_skipped():
            self.agent.stats.processed += 1
            self._finished(event)

    def finish(self) -> None:
        """Finish what is in hand: its effects count from now on."""
        if self._closed:
            return
        hand = self._hand
        if hand.by_hand:
            hand.taken.clear()
            self.effects.yielded = 0
            if hand.unacked:
                return  # as long as nothing is acknowledged, all of it is done again
        effects, self.effects = self.effects, self._spare
        if effects:
            self.unit.apply(effects)
            self._finish_skipped()
        effects.clear()
        self._spare = effects
        current = self.current
        for event in current:
            self._finished(event)
        self.agent.stats.processed += len(current)
        self._singly = max(0, self._singly - len(current))
        if current or not hand.by_hand:  # else a body that begins again were progress
            self.attempts = 0
        current.clear()

    def ack_by_hand(self) -> None:
        """From now on events are finished by `ack` alone."""
        self._hand.by_hand = True

    async def ack(self, event: Event) -> None:
        """Finish one event."""
        if self._closed or not self._hand.holds(event):
            return  # it is finished when the body asks for the next one; or it was acked before
        await self._complete()
        self._hand.ack(event)
        effects, self.effects = self.effects, Effects()
        self.effects.yielded = effects.yielded  # the others of a batch have their answers to come
        if effects:
            self.unit.apply(effects)
        self.agent.stats.processed += 1
        self.attempts = 0
        self._finished(event)
        self._finish_skipped()

    # The body

    async def _run(self) -> None:
        LANE.set(self)
        while not self._closed:
            try:
                await self._run_body()
            except asyncio.CancelledError:
                if self._closed or is_cancelled():
                    raise
                await self._fail(errors.StreamError(f'{self}: the body has cancelled itself'))
            except Exception as error:  # noqa: BLE001 - judged by the agent's error hook
                await self._fail(error)
        self._resting = True

    async def _fail(self, error: Exception) -> None:
        if not self._closed:
            self.effects = Effects()
            self._hand.blame_last()  # where they are acknowledged by hand
            await self._judge.hear(error)

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
        if self._hand.unacked:
            self.effects = Effects()  # of events that the next run cannot acknowledge
        if self.current or self.effects:
            await self._complete()
            self.finish()
        elif not self._closed:  # it has taken nothing: do not run it in a circle
            await self._rest(None)

    # After a failure; called by its judge

    def stop(self, error: Exception) -> None:
        """End with the application; what is in hand is not finished."""
        self.take_back()
        self._closed = True
        self.unit.stop(error)

    def take_back(self) -> None:
        """Let what is in hand come again."""
        self._hand_out_again(self._hand.give_back())

    def take_apart(self) -> None:
        """Let what is in hand come again, one by one."""
        self._singly = len(self.current)
        self.attempts = 0
        self.take_back()

    def give_up(self) -> None:
        """Finish the event in hand; those that were kept from the body for it come again."""
        skipped = self._hand.take_skipped()
        self.agent.stats.processed -= len(self.current)
        self.finish()
        self._hand_out_again(skipped)  # their effects were dropped

    def _hand_out_again(self, events: list[Event]) -> None:
        self._queue.extendleft(event.message for event in reversed(events))

    async def back_off(self, delay_s: float) -> None:
        """Pause before another attempt."""
        self.backing_off = True
        try:
            await self.clock.sleep(delay_s)
        finally:
            self.backing_off = False
