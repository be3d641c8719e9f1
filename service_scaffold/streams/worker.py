"""The feature that runs what was declared, whatever the broker does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiohttp import web

from service_scaffold import errors, features, scheduler
from service_scaffold.journal.base import Journal, NewRecord
from service_scaffold.streams import metrics
from service_scaffold.streams.forwarding import Forwarder, url_of
from service_scaffold.streams.inlets import Inlets
from service_scaffold.streams.liveness import Liveness
from service_scaffold.streams.opening import Opening
from service_scaffold.streams.progress import Progress
from service_scaffold.streams.refusals import Refused, hopeless
from service_scaffold.streams.routines import Routines
from service_scaffold.streams.session import Session
from service_scaffold.streams.topic import RecordMetadata
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.watchdog import Watchdog
from service_scaffold.streams.workplace import Workplace

LOGGER = logging.getLogger(__name__)

CONNECT_S = 10.0
CLOSE_S = 3.0
STABLE_S = 30.0
OFTEN = 3
"""So many connections in a row that did not last are worth telling when the next one is there."""
APPEND_S = 5.0
JOIN_LOOK_S = 0.005

FATAL = (errors.CoPartitionError, errors.ConfigError)
"""What another connection would not mend: the application stops."""


class Worker(features.ServiceFeature):
    """Runs the agents of an application as one member of its group.

    It connects by itself, and again when the connection is lost: what was in hand and not
    committed is handled again.

    Attributes:
        topology: What it runs.
        session: The connection that is up, None while there is none.
        error: Why there is none; None before the first attempt has ended.
        failure: What the application cannot go on with.
        routines: Timers, crontabs and tasks, which begin when it is ready.
        ready: Set when it first had its partitions, with all recovered.
        inlets: The agents of channels, which need no connection; None before the start.
    """

    def __init__(
        self,
        app: web.Application,
        topology: Topology,
        open_journal: Callable[[], Journal],
        open_workplace: Callable[[], Workplace],
    ) -> None:
        super().__init__(app)
        self.topology = topology
        self.session: Session | None = None
        self.error: Exception | None = None
        self.failure: Exception | None = None
        self._open_journal = open_journal
        self._open_workplace = open_workplace
        self._workplace: Workplace | None = None
        self._clock = features.get_clock(app)
        self._task: asyncio.Task[None] | None = None
        self._opener: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._interrupted = 0
        self._began = 0.0
        self._opening: Opening | None = None
        self._watchdog: Watchdog | None = None
        self._liveness = Liveness(topology.settings, self._clock, self._spawn, self.fail)
        self.routines = Routines(topology, self._clock, self._spawn)
        self.ready = asyncio.Event()
        self.inlets: Inlets | None = None
        self.forwarder = Forwarder()

    async def startup(self, app: web.Application) -> None:
        """Begin to connect; agents run as soon as the broker is there."""
        self.failure = self.error = None
        # Events that were waited for belong to their loop.
        self._connected, self.ready = asyncio.Event(), asyncio.Event()
        await self.topology.on_worker_init.send(self.topology)
        await self.topology.discover()
        self._workplace = self._open_workplace()
        self.topology.runtime = self
        self.topology.calls.open(self._clock)
        settings = self.topology.settings  # known only now: flags were read meanwhile
        self._liveness = Liveness(settings, self._clock, self._spawn, self.fail)
        if settings.blocking_s is not None:
            self._watchdog = Watchdog(settings.blocking_s)
            self._watchdog.start()
        self.inlets = Inlets(
            self.topology.local,
            self._clock,
            self._spawn,
            self.topology.append,
            self.topology.calls.take,
            self.fail,
        )
        self._task = self._spawn(self._supervise(), 'streams')
        self._opener = self._spawn(self._begin_routines(), 'streams ready')

    async def _begin_routines(self) -> None:
        await self.until_joined()
        self.routines.start()
        self.ready.set()

    async def drain(self, app: web.Application) -> None:
        """Take nothing more in, finish what runs, and commit it."""
        await self.topology.on_before_shutdown.send(self.topology)
        if self._opener is not None:
            self._opener.cancel()
        await self.routines.close()
        if self.inlets is not None:
            await self.inlets.drain(self.topology.settings.drain_s)
        if self.session is not None:
            await self.session.drain(self.topology.settings.drain_s)

    async def shutdown(self, app: web.Application) -> None:
        """Leave the group, and let go of stores and connection."""
        if self.inlets is not None:
            await self.inlets.close()
        await self.topology.calls.close()
        self.topology.runtime = None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        await self.forwarder.close()
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._workplace is not None:
            self._workplace.member_id = ''  # we have left the group
            self._workplace.close()

    def health(self) -> features.Health:
        """Ready when every partition that is ours is recovered and runs."""
        detail: dict[str, Any] = {}
        session = self.session
        if self.failure is not None:
            return features.Health(False, ready=False, detail={'error': str(self.failure)})
        if session is None:
            detail['error'] = str(self.error) if self.error else 'not connected yet'
            return features.Health(ok=False, ready=False, detail=detail)
        if self._interrupted >= OFTEN and self._clock.monotonic() - self._began < STABLE_S:
            detail['interrupted'] = f'{self._interrupted} times in a row; the last: {self.error}'
        if session.layout is not None and session.layout.missing:
            detail['missing_topics'] = sorted(session.layout.missing)
        if self.recovering:
            detail['recovering'] = {
                f'{table}/{number}': str(progress)
                for (table, number), progress in self.recovering.items()
            }
        copies = session.neighbours.copies
        if copies.by_place:
            detail['copies'] = {
                f'{table}/{number}': {'behind': copy.lag}
                for (table, number), copy in sorted(copies.by_place.items())
            }
        stalls = self._liveness.stalls
        if stalls:
            detail['stalled'] = [stall.shown() for stall in stalls]
        waiting = [str(task) for task in session.tasks.values() if task.phase == 'recovering']
        ready = session.joined.is_set() and copies.whole and not waiting and not stalls
        detail['partitions'] = sum(len(task.partitions) for task in session.tasks.values())
        return features.Health(
            ok=ready and not detail.keys() & {'missing_topics', 'interrupted'},
            ready=ready,
            detail=detail,
        )

    def metric_families(self) -> Iterable[features.Family | features.Histogram]:
        """Return what was counted, and how it is now."""
        stalled = len(self._liveness.stalls)
        yield from metrics.of_topology(self.topology)
        yield from metrics.of_session(self.topology, self.session, self.recovering, stalled)

    @property
    def recovering(self) -> Mapping[tuple[str, int], Progress]:
        """How far the recovery of each table and partition is, while there are any."""
        return {} if self._opening is None else self._opening.progress

    def _url(self) -> str | None:
        """Return where other workers reach this one, None where no HTTP server is known of."""
        settings = self.topology.settings
        if settings.url is not None:
            return settings.url
        return url_of(features.get_lifecycle(self.app).address, settings.host)

    async def append(self, record: NewRecord) -> RecordMetadata:
        """Append a record that belongs to no event, waiting for a connection for a while.

        Raises:
            PublishError: There was none, or the broker has not confirmed.
        """
        try:
            async with asyncio.timeout(APPEND_S):
                await self._connected.wait()
                assert self.session is not None
                return await self.session.append(record)
        except TimeoutError:
            raise errors.PublishError(
                f'{record.topic}: no confirm within {APPEND_S:g} s; {self.error or "connecting"}'
            ) from None

    def owns(self, topic: str, partition: int) -> bool:
        """Return whether a partition is ours, and worked on."""
        tasks = self.session.tasks.values() if self.session is not None else ()
        return any(
            (topic, partition) in task.partitions for task in tasks if task.phase == 'running'
        )

    async def until_joined(self) -> None:
        """Wait until the group has told what is ours, and all of that runs."""
        while True:
            await self._connected.wait()
            session = self.session  # not waited for: it may end before
            if session is not None and session.joined.is_set() and session.settled:
                return
            await asyncio.sleep(JOIN_LOOK_S)

    # Connections

    def _spawn(self, coro: Any, name: str) -> asyncio.Task[None]:
        return scheduler.get_scheduler(self.app).spawn(coro, name=name)

    async def _supervise(self) -> None:
        backoff = self.topology.settings.backoff
        down = False
        while self.failure is None:
            began = self._began = self._clock.monotonic()
            journal: Journal | None = None
            try:
                journal = self._open_journal()
                async with asyncio.timeout(CONNECT_S):
                    await journal.connect()
                if down:
                    LOGGER.info('Streams of %s: connected again', self.topology.id)
                    down = False
                await self._use(journal)
            except Exception as error:
                if self._is_fatal(error):
                    self.fail(error)
                    break
                self.error = error
                if isinstance(error, Refused):
                    soon = self._clock.monotonic() - began < STABLE_S
                    if not self.topology.refusals.learn(error, soon=soon):
                        self.fail(self._hopeless(error))
                        break
                    self._interrupted = 0  # it is not the connection's fault
                if not down:
                    known = isinstance(error, errors.ScaffoldError | OSError | TimeoutError)
                    LOGGER.warning(
                        'Streams of %s: interrupted, will go on: %s',
                        self.topology.id,
                        error or type(error).__name__,
                        exc_info=None if known else error,
                    )
                    down = True
            finally:
                if journal is not None:
                    await self._close(journal)
            lasted = self._clock.monotonic() - began > STABLE_S
            self._interrupted = 0 if lasted else self._interrupted + 1
            await self._clock.sleep(backoff.delay(self._interrupted + 1))

    async def _use(self, journal: Journal) -> None:
        assert self._workplace is not None
        opening = self._opening = Opening(
            journal,
            self.topology.settings,
            self._workplace.stores,
            self._clock,
            self.topology.restore_listeners,
        )
        session = Session(
            self.topology,
            self.topology.settings,
            journal,
            opening,
            self._workplace,
            self._clock,
            self._spawn,
            self.fail,
            self._url,
        )
        self.session = session
        self._connected.set()
        watching = self._spawn(self._liveness.run(session), 'liveness of streams')
        try:
            await session.run()
        finally:
            watching.cancel()
            self._connected.clear()
            await session.close()
            self.session = None
            self._close_stores()

    def _close_stores(self) -> None:
        """See that no store stays open, as its partition could not be worked on again."""
        assert self._workplace is not None
        stores = self._workplace.stores
        if left := stores.in_use:
            names = ', '.join(f'{table}/{number}' for table, number in left)
            LOGGER.error('Streams of %s: stores left open: %s; closing', self.topology.id, names)
            stores.close()

    async def _close(self, journal: Journal) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                await journal.close()
        except TimeoutError:
            LOGGER.warning('Streams of %s: closing the connection took too long', self.topology.id)

    def _hopeless(self, refused: Refused) -> Exception:
        tables = self.topology.tables.values()
        return hopeless(refused, {table.changelog: table.name for table in tables})

    def _is_fatal(self, error: Exception) -> bool:
        lost = isinstance(error, errors.OffsetsLost)
        return isinstance(error, FATAL) or (
            lost and self.topology.settings.on_offset_lost == 'fail'
        )

    def fail(self, error: Exception) -> None:
        """Stop the application: this cannot go on."""
        if self.failure is None:
            self.failure = error
            LOGGER.critical('Streams of %s cannot go on: %s', self.topology.id, error)
            features.get_lifecycle(self.app).fail(error)
