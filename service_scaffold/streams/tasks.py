"""The tasks of one connection: begun, begun again, and ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from service_scaffold import errors
from service_scaffold.backoff import Backoff
from service_scaffold.clock import Clock
from service_scaffold.journal.base import Member, Producer
from service_scaffold.streams.copies import Copies
from service_scaffold.streams.layout import Layout
from service_scaffold.streams.node import Spawn
from service_scaffold.streams.opening import Key, Opening
from service_scaffold.streams.outbox import Ensure
from service_scaffold.streams.task import Replied, Task

LOGGER = logging.getLogger(__name__)


class Tasks:
    """Begins and ends the tasks of the partitions that are ours.

    Args:
        copies: Give the stores of partitions that become ours.
        failed: Told of what the application cannot go on with.
        interrupted: Told of what another connection may mend.
        replied: Told of answers that go out; see `Task`.

    Attributes:
        by_key: Those that are ours.
        layout: Which topics exist; set by the session, before the first task.
        pausing: How many of them could not be opened, and wait before they try again.
        changing: Held by whoever begins and ends tasks: a rebalance, or a restart.
    """

    def __init__(
        self,
        opening: Opening,
        copies: Copies,
        ensure: Ensure,
        clock: Clock,
        spawn: Spawn,
        failed: Callable[[Exception], None],
        interrupted: Callable[[Exception], None],
        replied: Replied,
    ) -> None:
        self.by_key: dict[Key, Task] = {}
        self.layout: Layout | None = None
        self.pausing = 0
        self.changing = asyncio.Lock()
        self._opening = opening
        self._copies = copies
        self._ensure = ensure
        self._clock = clock
        self._spawn = spawn
        self._failed = failed
        self._interrupted = interrupted
        self._replied = replied
        self._member: Member | None = None
        self._producer: Producer | None = None
        self._starting: dict[Key, asyncio.Task[None]] = {}
        self._closed = False

    def _stopped(self, error: Exception) -> None:
        """Hear from an agent that it cannot go on: a store may be opened again, the rest ends."""
        if isinstance(error, errors.StoreError):
            self._interrupted(error)
        else:
            self._failed(error)

    def connected(self, member: Member, producer: Producer) -> None:
        """Work for this member from now on."""
        self._member = member
        self._producer = producer

    @property
    def starting(self) -> bool:
        """Whether one of them is being opened."""
        return bool(self._starting)

    def is_starting(self, task: Task) -> bool:
        """Tell whether somebody is opening a task."""
        return (task.count, task.number) in self._starting

    def begin(self, key: Key) -> None:
        """Open a task; its records come when it is open. Nothing is begun after `close`.

        A client may tell of partitions while, or after, its connection is given up: a store that
        is opened then would be closed by nobody, and be in use for the next connection.
        """
        if self._closed:
            return
        assert self.layout is not None
        assert self._member is not None
        count, number = key
        agents = self.layout.agents[count]
        task = Task(number, count, agents, self._clock, self._stopped, self._replied)
        self.by_key[key] = task
        self._member.pause(task.partitions)
        self._starting[key] = starting = self._spawn(self._start(task), f'start of {task}')
        starting.add_done_callback(lambda done: self._started(key, done))

    def _started(self, key: Key, done: asyncio.Task[None]) -> None:
        if self._starting.get(key) is done:
            del self._starting[key]

    async def _start(self, task: Task) -> None:
        """Bring a task to where its partitions were left, and let its records come."""
        assert self.layout is not None
        assert self._member is not None
        assert self._producer is not None
        attempt = 0
        if self._opening.delay_s and self.layout.tables(task.count):
            await self._clock.sleep(self._opening.delay_s)
        while True:
            try:
                await self._copies.until_whole()
                await self._opening.open(
                    task,
                    self.layout.tables(task.count),
                    self._member,
                    self._producer,
                    self._ensure,
                    self._spawn,
                    self._copies.release,
                )
                break
            except errors.GenerationEnded:
                return  # the next assignment begins it again
            except (errors.ConnectionLost, errors.OffsetsLost) as error:
                self._interrupted(error)
                return
            except Exception as error:
                attempt += 1
                LOGGER.warning('%s cannot start, will try again: %s', task, error, exc_info=error)
                self.pausing += 1
                try:
                    await self._clock.sleep(Backoff().delay(attempt))
                finally:
                    self.pausing -= 1
        for table in self.layout.tables(task.count):
            state = task.find_state(table.name)
            if state is not None:
                table.here[task.number] = state
                table.copies.pop(task.number, None)
        await self._member.seek({p: task.start_of(p.topic) for p in task.partitions})
        self._member.resume(task.partitions)

    async def end(self, key: Key) -> None:
        """Close a task; what it has not committed happens again, here or elsewhere."""
        starting = self._starting.pop(key, None)
        if starting is not None:
            starting.cancel()
            await asyncio.wait({starting})
        await self.by_key[key].close()
        self._forget(key)
        for table in self.layout.tables(key[0]) if self.layout is not None else ():
            self._copies.adopt(table, key[1])

    async def restart(self, task: Task) -> None:
        """Close a task, and begin it again at what is committed, if it is ours still."""
        key = (task.count, task.number)
        async with self.changing:
            if self.by_key.get(key) is not task or self._member is None:
                return
            self._member.pause(task.partitions)
            await self.end(key)
            if set(task.partitions) <= self._member.assignment:
                self.begin(key)

    def _forget(self, key: Key) -> None:
        self.by_key.pop(key, None)
        count, number = key
        for table in self.layout.tables(count) if self.layout is not None else ():
            table.here.pop(number, None)

    async def close(self) -> None:
        """End all of them, and begin no more."""
        self._closed = True
        for starting in self._starting.values():
            starting.cancel()
        if self._starting:
            await asyncio.wait(set(self._starting.values()))
        tasks = list(self.by_key.values())
        ended = await asyncio.gather(*(task.close() for task in tasks), return_exceptions=True)
        for task, error in zip(tasks, ended, strict=True):
            if error is not None:
                LOGGER.error('%s did not end as it should', task, exc_info=error)
        for key in list(self.by_key):
            self._forget(key)
