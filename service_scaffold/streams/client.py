"""What sends and asks where no worker runs: in commands."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from types import TracebackType

from service_scaffold import errors
from service_scaffold.clock import Clock, SystemClock
from service_scaffold.journal.base import Journal, NewRecord, Producer
from service_scaffold.streams.topic import RecordMetadata
from service_scaffold.streams.topics import Topics
from service_scaffold.streams.topology import Topology

CONNECT_S = 10.0


class Client:
    """Lets `topic.send`, `agent.ask` and the like work in a command: `async with Client(…):`.

    It connects when something is first sent or asked, and handles no events.

    Args:
        topology: Whose topics and agents they are; it must not be running here.
        open_journal: Makes a connection.
    """

    def __init__(self, topology: Topology, open_journal: Callable[[], Journal]) -> None:
        self._topology = topology
        self._open_journal = open_journal
        self._clock: Clock = SystemClock()
        self._connecting = asyncio.Lock()
        self._journal: Journal | None = None
        self._topics: Topics | None = None
        self._producer: Producer | None = None
        self._answers: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Client:
        if self._topology.runtime is not None:
            raise errors.StreamError(f'The application {self._topology.id} is running already')
        self._topology.runtime = self
        self._topology.calls.open(self._clock)
        self._answers = asyncio.ensure_future(self._read_answers())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._topology.calls.close()
        self._topology.runtime = None
        if self._answers is not None:
            self._answers.cancel()
            await asyncio.wait({self._answers})
        if self._journal is not None:
            await self._journal.close()

    async def _read_answers(self) -> None:
        calls = self._topology.calls
        await calls.until_wanted()
        try:
            await calls.serve(await self.connect())
        except Exception as error:  # noqa: BLE001 - raised where an answer is waited for
            calls.refuse(error)

    async def append(self, record: NewRecord) -> RecordMetadata:
        """Append a record.

        Raises:
            BrokerUnreachable, AccessRefused: There is no connection.
            PublishError: The broker has not confirmed it.
        """
        await self.connect()
        assert self._topics is not None
        assert self._producer is not None
        await self._topics.ensure([record.topic])
        record = await self._placed(record)
        (outcome,) = await self._producer.produce([record])
        if isinstance(outcome, Exception):
            raise outcome
        return RecordMetadata(record.topic, record.partition, outcome)

    async def _placed(self, record: NewRecord) -> NewRecord:
        """Return a record with its partition: whoever typed a command is told where it is."""
        assert self._journal is not None
        count = (await self._journal.partitions([record.topic]))[record.topic]
        if record.partition is not None or not count:
            return record
        key = record.key
        choose = self._topology.settings.partitioner
        number = random.randrange(count) if key is None else choose(key, count)
        return record._replace(partition=number)

    def owns(self, topic: str, partition: int) -> bool:
        """Return False: a command has no partitions."""
        return False

    async def connect(self) -> Journal:
        """Connect unless that is done, and return the connection.

        Raises:
            BrokerUnreachable, AccessRefused: That is not possible.
        """
        async with self._connecting:
            if self._journal is None:
                journal = await connected(self._open_journal)
                self._journal = journal
                self._topics = Topics(journal, self._topology.settings)
                await self._topics.create_own(self._topology)
                self._producer = await journal.producer()
            return self._journal


async def connected(open_journal: Callable[[], Journal]) -> Journal:
    """Return a connection that is up.

    Raises:
        BrokerUnreachable, AccessRefused: That is not possible, or takes too long.
    """
    journal = open_journal()
    try:
        async with asyncio.timeout(CONNECT_S):
            await journal.connect()
    except TimeoutError:
        await journal.close()
        raise errors.BrokerUnreachable(
            f'The broker has not answered within {CONNECT_S:g} s'
        ) from None
    except BaseException:
        await journal.close()
        raise
    return journal
