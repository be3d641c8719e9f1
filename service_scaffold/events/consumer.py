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
from service_scaffold.events.pipeline import Pipeline
from service_scaffold.events.subscription import EventSubscription
from service_scaffold.message import Middleware
from service_scaffold.transports.base import Binding, Delivery, Intake, IntakeSpec, Transport

LOGGER = logging.getLogger(__name__)

BIND_S = 0.01  # a binding more may take this much longer
PAUSE_LIMIT_S = 2.0


@dataclass(frozen=True)
class Surroundings:
    """What every consumer of a listener shares.

    Attributes:
        spawn: Starts a task that the listener owns.
        clock: What pauses are measured with.
        middlewares: The consume middlewares, first one outermost.
    """

    spawn: Spawn
    clock: Clock
    middlewares: Callable[[], Sequence[Middleware]]


@dataclass(eq=False)
class Session:
    """One intake in use.

    Attributes:
        intake: Where deliveries come from.
        transport: Whose intake it is.
        ended: Done, with the reason, when the worker cannot go on with it.
        bound: What the broker has confirmed.
        refused: What it has refused, with the reason.
    """

    intake: Intake
    transport: Transport
    ended: asyncio.Future[Exception]
    bound: set[Binding] = field(default_factory=set)
    refused: dict[Binding, Exception] = field(default_factory=dict)


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
        pipeline = Pipeline(subscription, self._surroundings.middlewares, self._surroundings.clock)
        subscription.on_swap = pipeline.compile
        if self._session is not None:
            pipeline.attach(self._session.transport)
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
        while self.subscriptions and not self._stopping and not self.gave_up:
            try:
                await self._use_intake(transport)
                attempt = 0
            except errors.ConnectionLost:
                return
            except errors.SessionTakenOver as error:
                LOGGER.critical('%s gives up: %s', self, error)
                self._mark_all('failed', error)
                self.gave_up = True
                return
            except (errors.EventError, TimeoutError, OSError) as error:
                self._fail(error, attempt)
            except Exception as error:
                LOGGER.exception('%s: consuming failed unexpectedly', self)
                self._fail(error, attempt)
            attempt += 1
            await self._surroundings.clock.sleep(self._backoff.delay(attempt))

    def _fail(self, error: Exception, attempt: int) -> None:
        level = logging.WARNING if attempt == 0 else logging.DEBUG
        LOGGER.log(level, '%s cannot consume, and will try again: %s', self, _text(error))
        self._mark_all('failed', error)

    async def _use_intake(self, transport: Transport) -> None:
        async with asyncio.timeout(transport.settings.connect_timeout_s):
            intake = await transport.intake(self._spec())
        session = Session(intake, transport, asyncio.get_running_loop().create_future())
        try:
            self._changed.clear()
            await self._reconcile(session)
            self._install(session)
            self._announce(session)
            await self._until_over(session)
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
            await self._reconcile(session)
            self._announce(session)

    async def _changed_or(self, ended: asyncio.Future[Exception], limit_s: float | None) -> None:
        changed = asyncio.ensure_future(self._changed.wait())
        waited: set[asyncio.Future[Any]] = {changed, ended}
        try:
            await asyncio.wait(waited, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()

    async def _reconcile(self, session: Session) -> None:
        """Make the intake's bindings those that are wanted."""
        wanted = {subscription.binding for subscription in self.subscriptions}
        surplus = session.bound - wanted
        missing = wanted - session.bound
        limit_s = session.transport.settings.connect_timeout_s
        async with asyncio.timeout(limit_s + BIND_S * (len(missing) + len(surplus))):
            if surplus:
                await session.intake.unbind(list(surplus))
                session.bound -= surplus
            if missing:
                refused = await session.intake.bind(list(missing))
                for binding, error in refused.items():
                    if binding not in session.refused:
                        LOGGER.warning('%s: %s is refused: %s', self, binding, _text(error))
                session.refused = dict(refused)
                session.bound |= missing - set(refused)
            else:
                session.refused = {}

    def _announce(self, session: Session) -> None:
        for subscription in self.subscriptions:
            error = session.refused.get(subscription.binding)
            if error is not None:
                subscription.mark('failed', error)
            elif subscription.binding in session.bound and subscription.state in (
                'waiting',
                'failed',
            ):
                subscription.mark('active')

    def _mark_all(self, state: str, error: Exception | None = None) -> None:
        for subscription in self.subscriptions:
            subscription.mark(state, error)  # type: ignore[arg-type] # one of State

    def _install(self, session: Session) -> None:
        self._session = session
        for pipeline in self.subscriptions.values():
            pipeline.attach(session.transport)
        self._available.set()
        if self._worker is None:
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
                await self._available.wait()
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
            if not self._over(session) or task is None:
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
        for lanes in self._lanes():
            self._hand_back(lanes.take_back())
        if session is not None:
            try:
                async with asyncio.timeout(PAUSE_LIMIT_S):
                    await session.intake.pause()
            except (errors.EventError, TimeoutError, OSError) as error:
                LOGGER.debug('%s: pausing failed: %s', self, _text(error))

    @abstractmethod
    def _hand_back(self, jobs: Iterable[Job]) -> None: ...

    async def drained(self) -> None:
        """Wait until the handlers that run have finished; to be called after `stop`."""
        if self._worker is not None:
            await asyncio.wait({self._worker})
        for lanes in self._lanes():
            await lanes.drained()

    def cancel(self) -> None:
        """Cancel the handlers that run: what they had is not processed."""
        if self._worker is not None:
            self._worker.cancel()
        for lanes in self._lanes():
            lanes.cancel()


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
