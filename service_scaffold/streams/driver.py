"""The offline test driver: the whole topology on a log in memory, with a clock moved by hand."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from service_scaffold import errors, features, options, scheduler
from service_scaffold.clock import Clock, ManualClock
from service_scaffold.journal.base import Journal, NewRecord, TopicSpec
from service_scaffold.journal.memory import MemoryJournal
from service_scaffold.journal.memory_broker import MemoryBroker
from service_scaffold.streams import serializers
from service_scaffold.streams.asking import Askable
from service_scaffold.streams.channel import Channel
from service_scaffold.streams.event import Event
from service_scaffold.streams.inlets import Inlets
from service_scaffold.streams.lane import Lane
from service_scaffold.streams.session import Session
from service_scaffold.streams.stores.base import Backend
from service_scaffold.streams.stores.memory import MemoryBackend
from service_scaffold.streams.topic import Topic
from service_scaffold.streams.topics import PARTITIONS
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.worker import Worker
from service_scaffold.streams.workplace import Workplace

SETTLE_S = 30.0
"""Real seconds after which `settle` gives up on handlers that go on and on."""
TURNS = 20
"""How often the loop turns at most before one looks how things are."""
NEVER_S = 1e9
"""The clock that is moved by hand need not stop for what `settle` does each time: checkpoints, and
looks for missing topics."""


class _LogClock(Clock):
    """Tells the time of another clock, and waits in real time.

    A fetch waits half a second for records. By a clock that is moved by hand, that would be two
    stops in each of its seconds at which nothing happens.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def time(self) -> float:
        return self._clock.time()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(max(delay_s, 0))


class _Kept(MemoryBackend):
    """Stores that survive the worker, as files do."""

    def close(self) -> None:
        Backend.close(self)

    def wipe(self) -> None:
        """Lose everything."""
        super().close()


class Driver:
    """Drives a topology; made by `drive`, or `app.test()`.

    Attributes:
        clock: Stands still until `advance`, or until a retry is waited for.
    """

    def __init__(self, topology: Topology, start: float) -> None:
        self.clock = ManualClock(start)
        self._topology = topology
        self._broker = MemoryBroker('', _LogClock(self.clock))
        self._stores = _Kept()
        self._app: web.Application | None = None
        self._worker: Worker | None = None

    @property
    def now(self) -> float:
        """The time: epoch seconds."""
        return self.clock.time()

    @property
    def worker(self) -> Worker:
        """The worker that runs.

        Raises:
            StreamError: The driver is not started.
        """
        if self._worker is None:
            raise errors.StreamError('The test driver is not started')
        return self._worker

    # What tests do

    async def send(
        self,
        topic: Topic | Channel | str,
        value: Any,
        key: Any = None,
        timestamp: float | None = None,
        partition: int | None = None,
    ) -> None:
        """Append a value to a topic; nobody has handled it before `settle`.

        Args:
            timestamp: Epoch seconds, default `now`.
        """
        if isinstance(topic, Channel):
            await topic.put(value, key, timestamp=timestamp)
            return
        target = self._topic(topic)
        at = self.now if timestamp is None else timestamp
        await self._append(target.record(key, value, partition, at))

    async def ask(
        self, agent: Askable, value: Any, key: Any = None, timeout: float | None = None
    ) -> Any:
        """Ask an agent, settle, and return its answer.

        Time passes only as long as nothing else brings the answer.

        Raises:
            Exception: As `Agent.ask`, and as `settle`.
        """
        question = agent.ask_nowait(value, key, timeout)
        try:
            await self.settle()
            while not question.done() and (due := self._next_due()) is not None:
                await self._move_to(due)
            return await question
        finally:
            question.cancel()

    async def settle(self) -> None:
        """Wait until all is processed and visible, or waits only for time to pass.

        Pauses before another attempt are waited for, by moving the clock.

        Raises:
            Exception: What has stopped the application.
            TimeoutError: Handlers still run after 30 s.
        """
        try:
            async with asyncio.timeout(SETTLE_S):
                while not await self._step():
                    pass
        except TimeoutError:
            raise TimeoutError(f'not settled within {SETTLE_S:g} s: {self._busy()}') from None

    async def advance(self, seconds: float) -> None:
        """Let time pass: whatever is due meanwhile comes at its own time; then settle."""
        target = self.now + seconds
        await self.settle()
        while (due := self._next_due()) is not None and due <= target:
            await self._move_to(due)
        await self._move_to(target)

    def _next_due(self) -> float | None:
        """Return when something happens next: somebody wakes, or something in a table ends."""
        session = self._running().session
        ends = None if session is None else session.advance(self.now)
        dues = [due for due in (self.clock.next_due, ends) if due is not None]
        return min(dues, default=None)

    async def _move_to(self, at: float) -> None:
        await self.clock.advance(max(0.0, at - self.now), yields=1)  # the rest is for `settle`
        session = self._running().session
        if session is not None:
            session.advance(self.now)  # stream time follows
        await self.settle()

    def read(self, topic: Topic | str) -> list[Event]:
        """Return all that is committed in a topic since the log began, in order per partition.

        Reading takes nothing away. A topic that nobody declared is decoded as JSON, else bytes.
        """
        name = str(topic)
        declared = self._topology.topics.get(name)
        log = self._broker.topics.get(name)
        if log is None:
            return []
        records = [
            record
            for partition in log.partitions
            for record in partition.read(0, sys.maxsize, committed=True)[0]
        ]
        if declared is not None:
            return [declared.decode(record) for record in records]
        return [_undeclared(record) for record in records]

    async def restart(self, *, wipe_state: bool = False) -> None:
        """Stop the worker, and start it again on the same log.

        Args:
            wipe_state: Lose the stores: tables are recovered from their changelogs.
        """
        await self.stop()
        if wipe_state:
            self._stores.wipe()
        await self.start()

    # Life

    async def start(self) -> None:
        """Start the worker, and wait until it has its partitions."""
        app = web.Application()
        parser = options.create_parser(self._topology.id)
        options.store_config(app, options.parse(parser, []))
        features.set_clock(app, self.clock)
        scheduler.setup(app)
        self._worker = Worker(app, self._topology, self._open_journal, self._workplace)
        self._app = app
        await features.get_lifecycle(app).start()
        await self.settle()

    async def stop(self) -> None:
        """Stop the worker in order."""
        app, self._app = self._app, None
        self._worker = None
        if app is not None:
            lifecycle = features.get_lifecycle(app)
            await lifecycle.shutdown()
            if lifecycle.failures:
                raise lifecycle.failures[0].error

    def _workplace(self) -> Workplace:
        return Workplace(self._topology.settings, self._stores)

    def _open_journal(self) -> Journal:
        settings = self._topology.settings
        return MemoryJournal(self._broker, settings.id, settings.partitioner)

    # Settling

    async def _step(self) -> bool:
        """Go on a little; True when nothing is left to do."""
        await _turn()
        worker = self._running()
        if worker.failure is not None:
            raise worker.failure
        session = worker.session
        if session is None or not session.joined.is_set():
            return await self._wait_for_start()
        if not session.settled and session.backing_off:
            return await self._wait_for_bodies(session)
        if not worker.ready.is_set() or worker.routines.busy:
            await asyncio.sleep(0.001)
            return False
        if session.expecting:
            await session.look()
        if not _has_all(session):  # a topic has just been made
            await asyncio.sleep(0)
            return False
        inlets = worker.inlets
        if inlets is not None and not (inlets.idle or self._ask(inlets.lanes)):
            return await self._wait_for_bodies(inlets)
        if not session.settled or await session.lags():
            await asyncio.sleep(0)
            return False
        if not (session.idle or self._ask(session.lanes)):
            return await self._wait_for_bodies(session)
        if session.dirty:
            await session.flush()
            return False  # what was sent may be read here
        return not await self._topology.calls.lags()

    def _ask(self, lanes: Iterable[Lane]) -> bool:
        """Tell whether all bodies that are busy wait for an agent's answer, and it for nobody."""
        hands = self._topology.calls.hands
        return bool(hands) and all(lane.idle or lane in hands for lane in lanes)

    async def _wait_for_start(self) -> bool:
        due = self.clock.next_due
        if self._running().error is not None and due is not None:
            await self.clock.advance(max(0.0, due - self.now))  # before it connects again
        await asyncio.sleep(0)
        return False

    async def _wait_for_bodies(self, bodies: Session | Inlets) -> bool:
        due = self.clock.next_due
        if bodies.backing_off and due is not None:
            await self.clock.advance(max(0.0, due - self.now))
        else:
            await asyncio.sleep(0.001)  # a body waits for something outside
        return False

    def _running(self) -> Worker:
        if self._worker is None:
            raise errors.StreamError('The test driver is not started')
        return self._worker

    def _busy(self) -> str:
        session = self._running().session
        if session is None:
            return str(self._running().error or 'no connection')
        return ', '.join(str(task) for task in session.tasks.values() if not task.idle) or 'records'

    # The log

    def _topic(self, topic: Topic | str) -> Topic:
        return topic if isinstance(topic, Topic) else self._topology.topic(topic)

    async def _append(self, record: NewRecord) -> None:
        journal = self._open_journal()
        await journal.connect()
        try:
            await journal.create([self._spec(record.topic)])
            producer = await journal.producer()
            (outcome,) = await producer.produce([record])
            if isinstance(outcome, Exception):
                raise outcome
        finally:
            await journal.close()

    def _spec(self, topic: str) -> TopicSpec:
        """Return how a topic is made that a test sends to before there is one."""
        declared = self._topology.topics.get(topic)
        partitions = self._topology.settings.topic_partitions
        if declared is None:
            return TopicSpec(topic, partitions)
        return declared.options.spec(topic, partitions, None)


@asynccontextmanager
async def drive(topology: Topology, start: float = 0.0) -> AsyncIterator[Driver]:
    """Run a topology offline: a log in memory, a clock that starts at `start` and is moved by hand.

    Raises:
        ScaffoldError: What was declared cannot start.
    """
    before = topology.settings
    topology.settings = dataclasses.replace(
        before,
        topic_partitions=before.topic_partitions or PARTITIONS,
        store='memory://',
        registry=False,
        checkpoint_s=NEVER_S,
        look_s=NEVER_S,
        kept_s=NEVER_S,
    )
    driver = Driver(topology, start)
    try:
        await driver.start()
        yield driver
    finally:
        try:
            await driver.stop()
        finally:
            topology.settings = before


def _has_all(session: Session) -> bool:
    """Tell whether every partition that is read has come: nobody shares them with us."""
    if session.layout is None:
        return False
    wanted = sum(session.layout.counts[topic] or 0 for topic in session.layout.topics)
    return wanted == sum(len(task.partitions) for task in session.tasks.values())


async def _turn() -> None:
    """Let everything run that can, until only time or the world outside can wake anything."""
    # A loop of another make does not tell what is ready; it turns as often as it may.
    ready = getattr(asyncio.get_running_loop(), '_ready', (None,))
    for _ in range(TURNS):
        await asyncio.sleep(0)
        if not ready:
            return


_KEY = serializers.key_codec()
_JSON = serializers.value_codec()


def _undeclared(record: Any) -> Event:
    value: Any = record.value
    if value is not None:
        try:
            value = _JSON.decode(value)
        except errors.DecodeError:
            pass
    return Event(None if record.key is None else _KEY.decode(record.key), value, record)
