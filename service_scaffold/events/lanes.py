"""Several handlers of one subscription at once, with order kept per key."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from service_scaffold.events.pipeline import Pipeline
from service_scaffold.transports.base import Delivery, Intake, Transport

LOGGER = logging.getLogger(__name__)

Spawn = Callable[[Any, str], 'asyncio.Task[Any]']
"""Starts a task of the listener's: `spawn(coroutine, name)`."""


class Job:
    """One delivery on its way through the subscriptions that match it.

    Attributes:
        delivery: What came.
        intake: Where it came from, and is settled.
        transport: Whose delivery it is.
        remaining: How many subscriptions have not finished with it.
        processed: False once one of them has handed it back.
        handled: True once one of them has handled it.
        ack_before: It is to be settled when the first of them begins.
        settled: It has been settled already.
        number: Place in the order of arrival, kept where a buffer is bounded.
    """

    __slots__ = (
        'ack_before',
        'delivery',
        'handled',
        'intake',
        'number',
        'processed',
        'remaining',
        'settled',
        'transport',
    )

    def __init__(
        self, delivery: Delivery, intake: Intake, transport: Transport, remaining: int
    ) -> None:
        self.delivery = delivery
        self.intake = intake
        self.transport = transport
        self.remaining = remaining
        self.processed = True
        self.handled = False
        self.ack_before = False
        self.settled = False
        self.number = 0


class Lanes:
    """Runs the jobs of one subscription: up to n at once, one after another per key.

    Args:
        pipeline: What handles each delivery.
        spawn: Starts the tasks, up to one per lane, when they are first needed.
        finished: Called with each job that this subscription is done with.
        admit: Tells of a job that is about to begin whether it is still ours to handle.
        limit: How many jobs may wait; one more pushes the oldest out. None: no limit.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        spawn: Spawn,
        finished: Callable[[Job], None],
        admit: Callable[[Job], bool],
        limit: int | None = None,
    ) -> None:
        self.pipeline = pipeline
        self._spawn = spawn
        self._finished = finished
        self._admit = admit
        self._limit = limit
        self._concurrency = pipeline.subscription.policy.concurrency
        self._ready: deque[Job] = deque()
        self._behind: dict[Hashable, deque[Job]] = {}  # keys in work, and who waits for each
        self._busy: set[Hashable] = set()  # of those keys, the ones whose handler runs
        self._waiting = 0
        self._idle: deque[asyncio.Future[None]] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._running = 0
        self._stopping = False

    def put(self, job: Job) -> Job | None:
        """Take a job; return the one that it has pushed out, if any."""
        pushed_out = self._make_room()
        self._waiting += 1
        key = job.delivery.key
        if self._concurrency > 1 and (behind := self._behind.get(key)) is not None:
            behind.append(job)
            return pushed_out
        if self._concurrency > 1:
            self._behind[key] = deque()
        self._ready.append(job)
        self._wake()
        return pushed_out

    def _make_room(self) -> Job | None:
        if self._limit is None or self._waiting < self._limit:
            return None
        self._waiting -= 1
        self.pipeline.stats.dropped += 1
        behind = [jobs for key in self._busy if (jobs := self._behind[key])]
        oldest = min(behind, key=_number_of_first, default=None)
        if oldest is not None and not (self._ready and self._ready[0].number < oldest[0].number):
            return oldest.popleft()
        job = self._ready.popleft()
        self._release(job.delivery.key)
        return job

    def _wake(self) -> None:
        while self._idle:
            future = self._idle.popleft()
            if not future.done():
                future.set_result(None)
                return
        if len(self._tasks) < self._concurrency and not self._stopping:
            name = f'{self.pipeline.subscription} lane {len(self._tasks) + 1}'
            self._tasks.append(self._spawn(self._lane(), name))

    def _release(self, key: Hashable) -> None:
        """Let the next job of a key come to its turn."""
        if self._concurrency == 1:
            return
        behind = self._behind[key]
        if behind:
            self._ready.append(behind.popleft())
            self._wake()
        else:
            del self._behind[key]

    async def _lane(self) -> None:
        while not self._stopping:
            if not self._ready:
                future = asyncio.get_running_loop().create_future()
                self._idle.append(future)
                await future
                continue
            job = self._ready.popleft()
            self._waiting -= 1
            self._running += 1
            if self._concurrency > 1:
                self._busy.add(job.delivery.key)
            try:
                await self._run(job)
            finally:
                self._running -= 1
                self._busy.discard(job.delivery.key)
                self._release(job.delivery.key)
            self._finished(job)

    async def _run(self, job: Job) -> None:
        if not self._admit(job):
            self.pipeline.stats.stale += 1
            job.processed = False
            return
        try:
            await self.pipeline.run((job.delivery,), job.transport)
            job.handled = True
        except Exception:  # a bug of ours: the message stays unsettled, and is delivered again
            LOGGER.exception('%s: handling failed in the pipeline', self.pipeline.subscription)
            await self.pipeline.rest()
            job.processed = False

    @property
    def running(self) -> int:
        """How many jobs are being handled now."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many jobs have not begun."""
        return self._waiting

    def take_back(self) -> Iterator[Job]:
        """Stop beginning new jobs, and yield those that have not begun."""
        self._stopping = True
        jobs = [*self._ready, *(job for jobs in self._behind.values() for job in jobs)]
        self._ready.clear()
        for behind in self._behind.values():
            behind.clear()
        self._waiting = 0
        for future in self._idle:
            if not future.done():
                future.set_result(None)
        self._idle.clear()
        yield from jobs

    async def drained(self) -> None:
        """Wait until the jobs that had begun have finished; to be called after `take_back`."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def cancel(self) -> None:
        """Cancel what is being handled: those jobs are not processed."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()


def _number_of_first(jobs: deque[Job]) -> int:
    return jobs[0].number
