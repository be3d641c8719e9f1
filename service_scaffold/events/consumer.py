"""One consumer: its subscriptions, its intake on the connection of the moment, its worker.

The worker outlives connections: a handler that runs when the connection is lost goes on, and its
successor only begins when it has finished. What a lost intake had handed out and was not begun is
void; the broker delivers it again.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from service_scaffold import errors
from service_scaffold.backoff import Backoff
from service_scaffold.clock import Clock
from service_scaffold.events.lanes import Job, Lanes, Spawn
from service_scaffold.events.outlet import Outlet
from service_scaffold.events.pipeline import Pipeline
from service_scaffold.events.session import Session, text_of
from service_scaffold.events.subscription import EventSubscription
from service_scaffold.message import Middleware
from service_scaffold.transports.base import Delivery, Intake, IntakeSpec, Transport

LOGGER = logging.getLogger(__name__)

STABLE_S = 30.0  # an intake that held this long was no part of the last trouble
PAUSE_LIMIT_S = 2.0


@dataclass(frozen=True)
class Surroundings:
    """What every consumer of a listener shares.

    Attributes:
        spawn: Starts a task that the listener owns.
        clock: What pauses are measured with.
        middlewares: The consume middlewares, first one outermost.
        outlet: The connection that dead letters and answers go out on.
    """

    spawn: Spawn
    clock: Clock
    middlewares: Callable[[], Sequence[Middleware]]
    outlet: Outlet = field(default_factory=Outlet)


class Consumer(ABC):
    """Takes deliveries from one intake and gives them to the subscriptions that match.

    Attributes:
        subscriptions: Who is served, by its pipeline.
        unmatched: How many deliveries matched no subscription.
        gave_up: Somebody else has taken our session over; fighting for it would not end.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self.subscriptions: dict[EventSubscription, Pipeline] = {}
        self.unmatched = 0
        self.gave_up = False
        self.keep: dict[str, object] = {}
        self._surroundings = surroundings
        self._backoff = Backoff(base_s=0.5, max_s=10.0)
        self._changed = asyncio.Event()
        self._session: Session | None = None
        self._available = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._worker_rests = asyncio.Event()
        self._worker_rests.set()
        self._fetching = False
        self._stopping = False

    @property
    def lag(self) -> int | None:
        """How many messages wait in the broker; None where it does not tell, or is away."""
        return None if self._session is None else self._session.intake.lag()

    # Subscriptions

    def add(self, subscription: EventSubscription) -> None:
        """Serve a subscription, from the next binding on.

        Raises:
            TypeError: Its handler cannot take messages.
        """
        around = self._surroundings
        pipeline = Pipeline(subscription, around.middlewares, around.clock, around.outlet)
        subscription.on_swap = pipeline.compile
        self.subscriptions[subscription] = pipeline
        self._added(subscription, pipeline)
        self._changed.set()

    def remove(self, subscription: EventSubscription) -> None:
        """Serve a subscription no longer."""
        if self.subscriptions.pop(subscription, None) is not None:
            self._removed(subscription)
            self._changed.set()

    def compile(self) -> None:
        """Compile every chain again: the middlewares are known now."""
        for pipeline in self.subscriptions.values():
            pipeline.compile()

    @abstractmethod
    def _added(self, subscription: EventSubscription, pipeline: Pipeline) -> None: ...

    @abstractmethod
    def _removed(self, subscription: EventSubscription) -> None: ...

    @abstractmethod
    def _spec(self) -> IntakeSpec: ...

    @abstractmethod
    def _lanes(self) -> Iterable[Lanes]: ...

    # One connection

    async def serve(self, transport: Transport) -> None:
        """Consume over one connection until it is lost, or nobody is subscribed any more."""
        attempt = 0
        clock = self._surroundings.clock
        while self.subscriptions and not self._stopping and not self.gave_up:
            began = clock.monotonic()
            try:
                await self._use_intake(transport)
                attempt = 0
                continue
            except errors.ConnectionLost as error:
                transport.lose(error)  # it may not have noticed, and we would come back at once
                return
            except errors.SessionTakenOver as error:
                LOGGER.critical('%s gives up: %s', self, error)
                self._mark_all('failed', error)
                self.gave_up = True
                return
            except Exception as error:
                if not isinstance(error, errors.EventError | TimeoutError | OSError):
                    LOGGER.exception('%s: consuming failed unexpectedly', self)
                attempt = 0 if clock.monotonic() - began >= STABLE_S else attempt
                self._fail(error, attempt)
            attempt += 1
            await clock.sleep(self._backoff.delay(attempt))

    def _fail(self, error: Exception, attempt: int) -> None:
        level = logging.WARNING if attempt == 0 else logging.DEBUG
        LOGGER.log(level, '%s cannot consume, and will try again: %s', self, text_of(error))
        self._mark_all('failed', error)

    async def _use_intake(self, transport: Transport) -> None:
        async with asyncio.timeout(transport.settings.connect_timeout_s):
            intake = await transport.intake(self._spec())
        session = Session(intake, transport, asyncio.get_running_loop().create_future())
        try:
            self._changed.clear()
            await self._reconcile(session)
            self._install(session)
            session.announce(self.subscriptions)
            await self._until_over(session)
            await self._finish(session)
        finally:
            self._uninstall(session)
            forget = not self.subscriptions and not self._stopping
            await intake.close(forget=forget)

    async def _until_over(self, session: Session) -> None:
        """Follow the subscriptions' changes; return when none is left, raise when it has ended."""
        attempt = 0
        while self.subscriptions:
            delay_s = self._backoff.delay(attempt + 1) if session.refused else None
            await self._changed_or(session.ended, delay_s)
            if session.ended.done():
                raise session.ended.result()
            attempt = 0 if self._changed.is_set() else attempt + 1
            self._changed.clear()
            if not self.subscriptions:
                return  # and leave the bindings: a group's queue goes on collecting
            await self._reconcile(session)
            session.announce(self.subscriptions)

    async def _reconcile(self, session: Session) -> None:
        wanted = {subscription.binding for subscription in self.subscriptions}
        await session.reconcile(wanted, self)

    async def _finish(self, session: Session) -> None:
        """Nobody is subscribed any more: let what runs end, so that it is still settled."""
        self._uninstall(session)
        await self._pause(session)
        await self._worker_rests.wait()
        for lanes in self._lanes():
            await lanes.drained()
        self._settle_rest()

    async def _changed_or(self, ended: asyncio.Future[Exception], limit_s: float | None) -> None:
        own: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._changed.wait())]
        if limit_s is not None:
            own.append(asyncio.ensure_future(self._surroundings.clock.sleep(limit_s)))
        try:
            await asyncio.wait([*own, ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for future in own:
                future.cancel()

    def _mark_all(self, state: str, error: Exception | None = None) -> None:
        for subscription in self.subscriptions:
            subscription.mark(state, error)  # type: ignore[arg-type] # one of State

    def _install(self, session: Session) -> None:
        self._session = session
        self._available.set()
        if self._worker is None or self._worker.done():
            self._worker = self._surroundings.spawn(self._work(), f'{self} worker')

    def _uninstall(self, session: Session) -> None:
        self._available.clear()
        if self._session is session:
            self._session = None
            self._interrupt()
        for subscription in self.subscriptions:
            if subscription.state in ('active', 'dlq_unavailable'):
                subscription.mark('waiting')

    # The worker

    async def _work(self) -> None:
        while not self._stopping:
            session = self._session
            if session is None or session.ended.done():
                self._available.clear()
                self._worker_rests.set()
                await self._available.wait()
                self._worker_rests.clear()
                continue
            try:
                await self._consume(session)
            except Exception as error:  # noqa: BLE001 - told to `serve`, which judges it
                if not session.ended.done():
                    session.ended.set_result(error)

    @abstractmethod
    async def _consume(self, session: Session) -> None:
        """Fetch and handle until the session is over."""

    def _over(self, session: Session) -> bool:
        return self._stopping or session is not self._session

    def _is_current(self, intake: Intake) -> bool:
        return self._session is not None and self._session.intake is intake

    async def _fetch(self, session: Session, limit: int) -> Sequence[Delivery]:
        """Fetch, unless the session is over: then return nothing."""
        if self._over(session):
            return ()
        self._fetching = True
        try:
            return await session.intake.fetch(limit)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                raise errors.IntakeLost('The client has cancelled the fetch itself') from None
            if not self._over(session):
                raise
            task.uncancel()
            return ()
        finally:
            self._fetching = False

    def _interrupt(self) -> None:
        """Wake the worker if it waits for deliveries; never while it handles one."""
        if self._fetching and self._worker is not None:
            self._fetching = False
            self._worker.cancel()

    # The end

    async def stop(self) -> None:
        """Take nothing more in, and hand back what was not begun."""
        self._stopping = True
        session = self._session
        self._interrupt()
        self._available.set()
        jobs = [job for lanes in self._lanes() for job in lanes.take_back()]
        if session is not None:
            await self._pause(session)  # first: else the broker would give them to us again
        self._hand_back(jobs)

    async def _pause(self, session: Session) -> None:
        try:
            async with asyncio.timeout(PAUSE_LIMIT_S):
                await session.intake.pause()
        except (errors.EventError, TimeoutError, OSError) as error:
            LOGGER.debug('%s: pausing failed: %s', self, text_of(error))

    @abstractmethod
    def _hand_back(self, jobs: Iterable[Job]) -> None: ...

    async def drained(self) -> None:
        """Wait until the handlers that run have finished; to be called after `stop`."""
        if self._worker is not None:
            await asyncio.wait({self._worker})
        for lanes in self._lanes():
            await lanes.drained()
        self._settle_rest()

    @abstractmethod
    def _settle_rest(self) -> None:
        """Settle what is done and not yet settled."""

    @property
    def idle(self) -> bool:
        """Whether no handler runs."""
        rests = self._worker is None or self._worker.done() or self._worker_rests.is_set()
        return rests and not any(lanes.running for lanes in self._lanes())

    def cancel(self) -> None:
        """Cancel the handlers that run: what they had is not processed."""
        if self._worker is not None:
            self._worker.cancel()
        for lanes in self._lanes():
            lanes.cancel()
