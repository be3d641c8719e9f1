"""The consumer of all live views of a listener: at most once, nobody waits for anybody."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence

from service_scaffold.clock import Clock
from service_scaffold.events.consumer import Consumer, Surroundings
from service_scaffold.events.lanes import Job, Lanes
from service_scaffold.events.pipeline import Pipeline
from service_scaffold.events.session import Session
from service_scaffold.events.subscription import EventSubscription
from service_scaffold.transports.base import LIVE_BUFFER, Delivery, IntakeSpec
from service_scaffold.transports.patterns import Matcher

LOGGER = logging.getLogger(__name__)

FETCH = 1000
WARN_EVERY_S = 60.0


class LiveConsumer(Consumer):
    """Gives each delivery to the buffer of every live view that matches it."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._matchers: dict[str, Matcher[View]] = {}
        self._views: dict[EventSubscription, View] = {}
        self._retired: list[Lanes] = []
        self._numbers = itertools.count()

    def __str__(self) -> str:
        return 'live views'

    def _added(self, subscription: EventSubscription, pipeline: Pipeline) -> None:
        lanes = Lanes(pipeline, self._surroundings.spawn, _finished, _always, limit=LIVE_BUFFER)
        view = self._views[subscription] = View(lanes, self._surroundings.clock)
        matcher = self._matchers.setdefault(subscription.exchange_name, Matcher())
        matcher.add(subscription.routing, view, subscription.exchange_type)

    def _removed(self, subscription: EventSubscription) -> None:
        view = self._views.pop(subscription)
        matcher = self._matchers[subscription.exchange_name]
        matcher.remove(subscription.routing, view, subscription.exchange_type)
        self._hand_back(view.lanes.take_back())
        self._retired = [old for old in (*self._retired, view.lanes) if old.running]

    def _spec(self) -> IntakeSpec:
        return IntakeSpec(keep=self.keep)

    def _lanes(self) -> Iterable[Lanes]:
        return [*(view.lanes for view in self._views.values()), *self._retired]

    async def _consume(self, session: Session) -> None:
        while not self._over(session):
            self._dispatch(await self._fetch(session, FETCH), session)

    def _dispatch(self, deliveries: Sequence[Delivery], session: Session) -> None:
        intake, transport, refused = session.intake, session.transport, session.refused
        for delivery in deliveries:
            matcher = self._matchers.get(delivery.exchange)
            views = matcher.match(delivery.routing) if matcher is not None else ()
            if delivery.binding is not None:  # sent again for one new binding: others had it
                views = tuple(view for view in views if view.binding == delivery.binding)
            if refused:  # a failed view gets nothing, though another one has it bound
                views = tuple(view for view in views if view.binding not in refused)
            if not views:
                self.unmatched += 1
                intake.settle([delivery])
                continue
            job = Job(delivery, intake, transport, len(views))
            job.number = next(self._numbers)
            for view in views:
                view.put(job)

    def _settle_rest(self) -> None:
        """Do nothing: live views settle nothing."""

    def _hand_back(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            _finished(job)


class View:
    """One live view's buffer, and its warnings."""

    def __init__(self, lanes: Lanes, clock: Clock) -> None:
        self.lanes = lanes
        self._clock = clock
        self._warned_at: float | None = None
        self.binding = lanes.pipeline.subscription.binding

    def put(self, job: Job) -> None:
        """Buffer a job; the oldest one goes when the buffer is full."""
        pushed_out = self.lanes.put(job)
        if pushed_out is None:
            return
        _finished(pushed_out)
        now = self._clock.monotonic()
        if self._warned_at is None or now - self._warned_at >= WARN_EVERY_S:
            self._warned_at = now
            LOGGER.warning(
                '%s: its handler is too slow, %d messages have been dropped so far',
                self.lanes.pipeline.subscription,
                self.lanes.pipeline.stats.dropped,
            )


def _finished(job: Job) -> None:
    """Tell the intake that every view is done with a delivery (which settles nothing)."""
    job.remaining -= 1
    if not job.remaining:
        job.intake.settle([job.delivery])


def _always(job: Job) -> bool:
    """Admit every job: what a live view has received stays good after its connection is gone."""
    return True
