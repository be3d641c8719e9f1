"""Asking agents: questions leave at once, answers come back over a topic of this process."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from service_scaffold import errors
from service_scaffold.clock import Clock, SystemClock
from service_scaffold.journal.base import Journal, Reader, TopicPartition, TopicSpec
from service_scaffold.streams.effects import LANE, Hand
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.transports import headers

LOGGER = logging.getLogger(__name__)

CHUNK = 1_000
WAIT_S = 60.0
CLOSE_S = 2.0
LEAST_RETENTION_S = 60.0
HERE = ''
"""Where answers to questions over a channel go: they never leave the process."""

Decode = Callable[[bytes], Any]


class Asker(Protocol):
    """Whose questions they are."""

    settings: StreamSettings


class Calls:
    """The questions of this process that have no answer yet, and the reading of answers.

    The topic of answers is made and read as soon as somebody asks. A lost connection fails nobody:
    the answer is in the log, and is read by the next connection, as long as there is time.

    Attributes:
        late: Answers that nobody waited for any more.
        hands: How often each lane waits for answers now; None is whoever asks outside of agents.
    """

    def __init__(self, asker: Asker) -> None:
        self.late = 0
        self.hands: Counter[Hand | None] = Counter()
        self._asker = asker
        self.clock: Clock = SystemClock()
        self._own = str(uuid.uuid4())
        self._running = False
        self._pending: dict[bytes, tuple[asyncio.Future[Any], Decode]] = {}
        self._sending = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wanted = asyncio.Event()
        self._ready = asyncio.Event()
        self._refused: Exception | None = None
        self._offsets: dict[TopicPartition, int] = {}
        self._reading: asyncio.Task[None] | None = None
        self._journal: Journal | None = None
        self._reader: Reader | None = None

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def reply_to(self) -> str:
        """Name of the topic that answers come over."""
        settings = self._asker.settings
        prefix = settings.reply_prefix or f'{settings.id}-'
        return settings.reply_to or f'{prefix}replies-{self._own}'

    def is_own(self, topic: str) -> bool:
        """Tell whether a topic is one of answers that a process of the application has made."""
        begin, _, own = topic.partition('-replies-')
        try:
            return begin == self._asker.settings.id and str(uuid.UUID(own)) == own
        except ValueError:
            return False

    # Asking

    async def ask(
        self,
        agent: str,
        correlation_id: bytes,
        send: Callable[[], Awaitable[Any]],
        decode: Decode,
        timeout_s: float | None,
        *,
        here: bool = False,
    ) -> Any:
        """Send a question, and wait for its answer.

        Args:
            agent: Who is asked; for errors only.
            here: The question stays in this process, and so does its answer.

        Raises:
            TimeoutError: There is no answer in time.
            RemoteError: The agent has given up the question.
            PublishError: The question could not be sent.
            ConnectionLost: The application stops.
            StreamError: There is no topic for answers, and none may be made.
        """
        if not self._running:
            raise errors.PublishError(
                f'Agent {agent} cannot be asked: the application {self._asker.settings.id} is not'
                ' running; ask after its start'
            )
        limit_s = self._asker.settings.reply_expires_s if timeout_s is None else timeout_s
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        alarm = asyncio.ensure_future(self.clock.sleep(limit_s))
        alarm.add_done_callback(lambda done: _expire(done, future, agent, limit_s))
        self._pending[correlation_id] = future, decode
        try:
            await self._send(send, future, here=here)
            return await future
        finally:
            self._pending.pop(correlation_id, None)
            alarm.cancel()
            if not future.cancel() and not future.cancelled():
                future.exception()  # seen, even if something else was raised before it

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Note that whoever runs here waits for answers, and for nothing else, meanwhile."""
        hand = LANE.get()
        self.hands[hand] += 1
        try:
            yield
        finally:
            self.hands -= Counter([hand])

    def begin(self, question: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Ask in the background; a failure that nobody looks at is no complaint."""
        task = asyncio.ensure_future(question)
        self._tasks.add(task)
        task.add_done_callback(self._asked)
        return task

    def _asked(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            LOGGER.debug('A question has failed: %s', error)

    async def _send(
        self, send: Callable[[], Awaitable[Any]], future: asyncio.Future[Any], *, here: bool
    ) -> None:
        self._sending += 1
        try:
            if not here:
                await self._until_ready(future)
            if not future.done():
                await send()
        finally:
            self._sending -= 1

    async def _until_ready(self, future: asyncio.Future[Any]) -> None:
        """Wait until answers are read, or `future` is done."""
        self._wanted.set()
        if not self._ready.is_set():
            ready = asyncio.ensure_future(self._ready.wait())
            try:
                await asyncio.wait({ready, future}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ready.cancel()
        if self._refused is not None:
            raise self._refused

    # Answers

    def take(self, record: Any) -> None:
        """Give an answer to whoever waits for it."""
        facts = dict(record.headers)
        correlation_id = facts.get(headers.CORRELATION_ID, b'')
        future, decode = self._pending.pop(correlation_id, (None, None))
        if future is None or decode is None or future.done():
            self.late += 1
            LOGGER.debug('Nobody waits for the answer %r (any more)', correlation_id)
            return
        try:
            error_type = facts.get(headers.ERROR_TYPE)
            if error_type is not None:
                message = facts.get(headers.ERROR_MESSAGE, b'')
                raise errors.RemoteError(error_type.decode(), message.decode('utf-8', 'replace'))
            future.set_result(None if record.value is None else decode(record.value))
        except Exception as error:  # noqa: BLE001 - raised where the answer is waited for
            future.set_exception(error)

    async def lags(self) -> bool:
        """Tell whether there are questions to be sent, or answers to be read."""
        journal, reader = self._journal, self._reader
        if self._sending or not self._pending or journal is None or reader is None:
            return bool(self._sending)
        ends = await journal.offsets(list(self._offsets), 'end')
        return any(reader.position(where) < end for where, end in ends.items())

    # Life

    def open(self, clock: Clock) -> None:
        """Questions may come from now on."""
        self.clock = clock
        self._running = True
        self._wanted, self._ready = asyncio.Event(), asyncio.Event()  # of the loop that runs now
        if self._asker.settings.reply_create:
            self._wanted.set()

    async def close(self) -> None:
        """Fail those who wait, and delete the topic of answers if it is ours alone."""
        self._running = False
        for future, _ in list(self._pending.values()):
            if not future.done():
                future.set_exception(
                    errors.ConnectionLost(
                        'The application stops while an answer is waited for; whether the question'
                        ' was handled is not known'
                    )
                )
        journal, reading = self._journal, self._reading
        self._journal = None
        if reading is not None:
            reading.cancel()
            await asyncio.wait({reading})
        if journal is not None and self._ready.is_set() and self._asker.settings.reply_to is None:
            await self._delete(journal)
        self._offsets.clear()
        self._refused = None
        self._own = str(uuid.uuid4())  # a deleted topic cannot be made again at once

    async def _delete(self, journal: Journal) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                await journal.delete([self.reply_to])
        except (errors.ScaffoldError, TimeoutError) as error:
            LOGGER.warning('Topic %s of answers is left behind: %s', self.reply_to, error)

    async def until_wanted(self) -> None:
        """Wait until somebody asks."""
        await self._wanted.wait()

    def refuse(self, error: Exception) -> None:
        """Fail whoever asks, until `serve` can read answers."""
        self._refused = error
        self._ready.set()

    async def serve(self, journal: Journal) -> None:
        """Read answers over one connection, from when the first one is waited for; never ends.

        Raises:
            ConnectionLost: It is lost.
        """
        await self._wanted.wait()
        if await self._prepare(journal):
            self._journal = journal
            reading = self._reading = asyncio.ensure_future(self._read(journal))
            try:
                await asyncio.wait({reading})
                if self._journal is journal:  # else `close` has ended it
                    reading.result()
            finally:
                self._journal = self._reading = None
                reading.cancel()
                await asyncio.wait({reading})
        await asyncio.get_running_loop().create_future()

    async def _prepare(self, journal: Journal) -> bool:
        """Make sure that there is a topic; tell those who ask if there is none."""
        try:
            self._refused = None
            await self._create(journal)
        except (errors.ConnectionLost, TimeoutError):
            raise
        except errors.ScaffoldError as error:
            LOGGER.error('Agents cannot be asked: %s', error)
            self.refuse(error)
            return False
        return True

    async def _create(self, journal: Journal) -> None:
        name, settings = self.reply_to, self._asker.settings
        if (await journal.partitions([name]))[name] is not None:
            return
        own = settings.reply_to is None
        if not settings.may_declare or not (own or settings.reply_create):
            raise errors.StreamError(
                f'Topic {name} of answers does not exist; make it and name it as reply_to, or set'
                ' reply_create_topic'
            )
        kept_ms = str(int(max(settings.reply_expires_s, LEAST_RETENTION_S) * 1000))
        config = {'cleanup.policy': 'delete', 'retention.ms': kept_ms, 'segment.ms': kept_ms}
        await journal.create([TopicSpec(name, 1, settings.topic_replicas, config)])
        self._offsets.clear()

    async def _read(self, journal: Journal) -> None:
        reader = self._reader = await journal.reader()
        try:
            await reader.assign(await self._positions(journal))
            self._ready.set()
            while True:
                for record in await reader.fetch(CHUNK, WAIT_S):
                    where = TopicPartition(record.topic, record.partition)
                    self._offsets[where] = record.offset + 1
                    self.take(record)
        finally:
            self._reader = None
            await reader.close()

    async def _positions(self, journal: Journal) -> dict[TopicPartition, int]:
        """Return where to go on: at the end of a topic that others may use, too."""
        name = self.reply_to
        count = (await journal.partitions([name]))[name] or 1
        where = [TopicPartition(name, number) for number in range(count)]
        own = self._asker.settings.reply_to is None
        first = await journal.offsets(where, 'first')
        end = await journal.offsets(where, 'end')
        for one in where:
            begin = self._offsets.get(one, first[one] if own else end[one])
            self._offsets[one] = begin if first[one] <= begin <= end[one] else first[one]
        return {one: self._offsets[one] for one in where}


def _expire(
    alarm: asyncio.Future[None], future: asyncio.Future[Any], agent: str, limit_s: float
) -> None:
    if not alarm.cancelled() and not future.done():
        future.set_exception(TimeoutError(f'Agent {agent} has not answered within {limit_s:g} s'))
