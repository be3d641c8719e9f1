"""The consumer of a group on one exchange: at least once, settled after the handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from service_scaffold.events.consumer import Consumer, Surroundings
from service_scaffold.events.lanes import Job, Lanes
from service_scaffold.events.pipeline import Pipeline
from service_scaffold.events.session import Session
from service_scaffold.events.subscription import EventSubscription
from service_scaffold.transports.base import Delivery, Intake, IntakeSpec
from service_scaffold.transports.patterns import Matcher

SETTLE_EVERY_S = 0.05
"""How long a finished message waits, at most, behind one whose handler takes its time."""


class _Batch:
    """What the worker itself goes through.

    Attributes:
        intake: Where it was fetched.
        deliveries: What was fetched.
        begun: How many of them the worker has begun, or has given back.
        done: What is finished and not yet settled.
    """

    __slots__ = ('begun', 'deliveries', 'done', 'intake')

    def __init__(self, intake: Intake, deliveries: Sequence[Delivery]) -> None:
        self.intake = intake
        self.deliveries = deliveries
        self.begun = 0
        self.done: list[Delivery] = []

    def settle(self) -> None:
        if self.done:
            self.intake.settle(self.done)
            self.done.clear()

    def take_rest(self) -> Sequence[Delivery]:
        rest = self.deliveries[self.begun :]
        self.begun = len(self.deliveries)
        return rest


class GroupConsumer(Consumer):
    """Serves all subscriptions of one group on one exchange from one queue.

    With a single subscription and `concurrency=1` the worker itself calls the handler; else each
    subscription has lanes, and a delivery is settled when all that match have finished.
    """

    def __init__(
        self, group: str, exchange: str, exchange_type: str, surroundings: Surroundings
    ) -> None:
        super().__init__(surroundings)
        self.group = group
        self.exchange = exchange
        self.exchange_type = exchange_type
        self._matcher: Matcher[EventSubscription] = Matcher()
        self._by_subscription: dict[EventSubscription, Lanes] = {}
        self._retired: list[Lanes] = []
        self._window = 1
        self._inline: Pipeline | None = None
        self._in_flight = 0
        self._room = asyncio.Event()
        self._done: list[Job] = []
        self._batch: _Batch | None = None
        self._ticking = False

    def __str__(self) -> str:
        return f'group {self.group} on {self.exchange}'

    def _added(self, subscription: EventSubscription, pipeline: Pipeline) -> None:
        self._matcher.add(subscription.routing, subscription, subscription.exchange_type)
        self._by_subscription[subscription] = Lanes(
            pipeline, self._surroundings.spawn, self._finished, self._admit
        )
        self._weigh()

    def _removed(self, subscription: EventSubscription) -> None:
        self._matcher.remove(subscription.routing, subscription, subscription.exchange_type)
        lanes = self._by_subscription.pop(subscription)
        self._abandon(lanes.take_back())
        self._retired = [old for old in (*self._retired, lanes) if old.running]
        self._weigh()

    def _weigh(self) -> None:
        """Choose window and way of working for the subscriptions as they are."""
        policies = [subscription.policy for subscription in self.subscriptions]
        self._window = max((policy.window for policy in policies), default=1)
        single = len(policies) == 1 and policies[0].concurrency == 1 and not self._stopping
        self._inline = next(iter(self.subscriptions.values())) if single else None
        self._room.set()

    def _spec(self) -> IntakeSpec:
        first = any(s.policy.start == 'first' for s in self.subscriptions)
        return IntakeSpec(
            group=self.group,
            exchange=self.exchange,
            exchange_type=self.exchange_type,
            prefetch=self._window,
            start='first' if first else 'new',
            keep=self.keep,
        )

    def _lanes(self) -> Iterable[Lanes]:
        return [*self._by_subscription.values(), *self._retired]

    async def _consume(self, session: Session) -> None:
        while not self._over(session):
            room = self._window - self._in_flight
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            deliveries = await self._fetch(session, room)
            # Looked at now: subscriptions may have come and gone while we waited.
            if self._inline is not None and not self._in_flight:
                await self._run(deliveries, session, self._inline)
            else:
                self._dispatch(deliveries, session)

    # A single subscription, one message at a time

    async def _run(
        self, deliveries: Sequence[Delivery], session: Session, pipeline: Pipeline
    ) -> None:
        batch = self._batch = _Batch(session.intake, deliveries)
        admitted = self._admitted(batch, session, pipeline)
        self._tick()
        try:
            await pipeline.run(admitted, session.transport)
        finally:
            self._batch = None
            batch.settle()
            if rest := batch.take_rest():
                self._dispatch(rest, session)

    def _admitted(self, batch: _Batch, session: Session, pipeline: Pipeline) -> Iterator[Delivery]:
        """Yield what is to be handled; whoever asks for the next one has finished the last."""
        intake, done = batch.intake, batch.done
        before = pipeline.subscription.policy.ack == 'before'
        known = self._matcher.cache  # routing keys seen before: one look-up
        epoch = intake.epoch
        for delivery in batch.deliveries:
            if intake.epoch != epoch or self._inline is not pipeline:
                if self._over(session) or self._inline is not pipeline:
                    return  # the rest goes back, or to those who are subscribed now
                if not intake.alive(delivery):
                    batch.begun += 1
                    pipeline.stats.stale += 1
                    continue
            batch.begun += 1
            # A copy of another binding, which is being unbound, is nobody's.
            whole = delivery.binding is None
            if (whole and known.get(delivery.routing)) or self._targets(delivery):
                if before:
                    intake.settle([delivery])
                    yield delivery
                    continue
                yield delivery
            else:
                self.unmatched += 1
            done.append(delivery)

    def _tick(self) -> None:
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(SETTLE_EVERY_S, self._settle_batch)

    def _settle_batch(self) -> None:
        """Settle what the worker has finished, while it goes on with the rest of its batch."""
        self._ticking = False
        if self._batch is None:
            return
        self._batch.settle()
        self._tick()

    def _targets(self, delivery: Delivery) -> Sequence[EventSubscription]:
        targets = self._matcher.match(delivery.routing)
        if delivery.binding is not None:  # one copy per binding: only its own subscriptions
            return [target for target in targets if target.binding == delivery.binding]
        return targets

    # Several at once

    def _dispatch(self, deliveries: Sequence[Delivery], session: Session) -> None:
        intake = session.intake
        for index, delivery in enumerate(deliveries):
            if self._over(session) or not self.subscriptions:
                intake.requeue(deliveries[index:])
                return
            targets = self._targets(delivery)
            if not targets:
                self.unmatched += 1
                intake.settle([delivery])
                continue
            self._in_flight += 1
            job = Job(delivery, intake, session.transport, len(targets))
            job.ack_before = all(target.policy.ack == 'before' for target in targets)
            for target in targets:
                self._by_subscription[target].put(job)

    def _finished(self, job: Job) -> None:
        job.remaining -= 1
        if job.remaining:
            return
        self._in_flight -= 1
        self._room.set()
        if job.settled:
            return
        if not job.processed or not job.handled:
            self._give_back(job.intake, [job.delivery])
            return
        if not self._done:
            asyncio.get_running_loop().call_soon(self._settle_done)
        self._done.append(job)

    def _settle_done(self) -> None:
        """Settle what has finished since the last turn of the event loop, in lists."""
        jobs, self._done = self._done, []
        by_intake: dict[int, tuple[Intake, list[Delivery]]] = {}
        for job in jobs:
            by_intake.setdefault(id(job.intake), (job.intake, []))[1].append(job.delivery)
        for intake, deliveries in by_intake.values():
            intake.settle(deliveries)

    def _hand_back(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            job.processed = False
            self._finished(job)

    def _abandon(self, jobs: Iterable[Job]) -> None:
        """Take a subscription that has gone out of jobs: they are done when all others are.

        What nobody has handled goes back: a new subscription, or another instance, may want it.
        """
        for job in jobs:
            self._finished(job)

    def _admit(self, job: Job) -> bool:
        """Tell whether a job may begin; from `ack='before'` on it is at most once."""
        if job.settled:
            return True
        if not self._is_current(job.intake) or not job.intake.alive(job.delivery):
            return False
        if job.ack_before:
            job.intake.settle([job.delivery])
            job.settled = True
        return True

    def _give_back(self, intake: Intake, deliveries: Sequence[Delivery]) -> None:
        if self._is_current(intake):
            intake.requeue(deliveries)

    async def stop(self) -> None:
        self._inline = None  # the worker looks at it before each message
        await super().stop()
        if self._batch is not None:  # not only when the handler that runs has finished
            self._give_back(self._batch.intake, self._batch.take_rest())

    def _settle_rest(self) -> None:
        self._settle_done()
