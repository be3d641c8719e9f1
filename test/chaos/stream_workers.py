"""Processes of the stream worker, and the log that they work on."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from service_scaffold.journal.base import Journal, NewRecord, TopicPartition, TopicSpec
from service_scaffold.streams.journals import open_journal
from service_scaffold.transports.address import Address
from service_scaffold.transports.base import Settings
from test.brokers.process import free_port, kill
from test.chaos.processes import start

PARTITIONS = 4
OUT_PARTITIONS = 3


class StreamWorker:
    """One process of `test.chaos.stream_worker`."""

    def __init__(self, url: str, topic: str, directory: Path, **options: object) -> None:
        self.base = f'http://127.0.0.1:{(port := free_port())}/{topic}'
        self.log = directory / f'worker-{port}.log'
        given = {
            'eventbus_url': url,
            'topic': topic,
            'name': topic,
            'host': '127.0.0.1',
            'port': port,
            'datadir': directory / 'data',
            **options,
        }
        self.process = start('test.chaos.stream_worker', given, self.log)

    def kill(self) -> None:
        """End it with SIGKILL."""
        kill(self.process)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stand still with SIGSTOP, and go on with SIGCONT."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    async def terminate(self, timeout_s: float = 20) -> int:
        """Send SIGTERM; return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(timeout_s):
            return await asyncio.to_thread(self.process.wait)

    async def ready(self, timeout_s: float = 60) -> None:
        """Wait until it has its partitions, and they run."""
        async with asyncio.timeout(timeout_s):
            while await self._get('/_service/ready') is None:
                assert self.process.poll() is None, self.log.read_text()[-4000:]
                await asyncio.sleep(0.05)

    async def is_ready(self) -> bool:
        """Whether it says so now."""
        return await self._get('/_service/ready') is not None

    async def status(self) -> object:
        """Return what it says of itself."""
        return await self._get('/_service/status')

    async def answers(self, timeout_s: float = 30) -> None:
        """Wait until it answers at all."""
        async with asyncio.timeout(timeout_s):
            while await self.status() is None:
                assert self.process.poll() is None, self.log.read_text()[-4000:]
                await asyncio.sleep(0.05)

    async def ask(self, path: str) -> tuple[int, dict[str, Any], Mapping[str, str]] | None:
        """Return status, JSON and headers of an answer, None without one."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
            try:
                async with session.get(self.base + path) as response:
                    found = await response.json(content_type=None)
                    return response.status, found, response.headers
            except aiohttp.ClientConnectorError:
                return None

    async def seen(self) -> dict[str, int]:
        """Return its part of the table."""
        found = await self._get('/seen')
        return {} if found is None else dict(found)

    async def _get(self, path: str) -> dict[str, int] | None:
        limit = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=limit) as session:
            try:
                async with session.get(self.base + path) as response:
                    return await response.json() if response.status == 200 else None
            except (aiohttp.ClientError, TimeoutError):
                return None


async def connected(url: str) -> Journal:
    """Return a connection to the log, apart from those of the workers."""
    made = open_journal(Settings(address=Address.parse(url), name='test', instance='test'))
    await made.connect()
    return made


class Fleet:
    """Workers of one application, its input and its output.

    Args:
        options: Of every worker, with underscores.
    """

    def __init__(
        self, journal: Journal | None, url: str, topic: str, directory: Path, **options: object
    ) -> None:
        self.topic = topic
        self.out = f'{topic}.out'
        self.workers: list[StreamWorker] = []
        self.sent = 0
        self._journal = journal
        self._url = url
        self._directory = directory
        self._options = options

    @property
    def journal(self) -> Journal:
        """The connection that is produced and looked with."""
        assert self._journal is not None, 'there is no broker yet'
        return self._journal

    @journal.setter
    def journal(self, journal: Journal) -> None:
        self._journal = journal

    async def __aenter__(self) -> Self:
        if self._journal is not None and self._options.get('declared', 1):
            await self.journal.create(
                [TopicSpec(self.topic, PARTITIONS), TopicSpec(self.out, OUT_PARTITIONS)]
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self.workers:
            worker.kill()
            if error is not None:
                print(f'{worker.log}:\n{worker.log.read_text()[-4000:]}')

    def start(self, **options: object) -> StreamWorker:
        """Start one more worker; `options` instead of those of the others."""
        worker = StreamWorker(
            self._url, self.topic, self._directory, **{**self._options, **options}
        )
        self.workers.append(worker)
        return worker

    def remove(self, worker: StreamWorker) -> None:
        """Kill a worker."""
        worker.kill()
        self.workers.remove(worker)

    async def produce(
        self, count: int, pause_s: float = 0.05, batch: int = 50, keys: int = sys.maxsize
    ) -> None:
        """Send the next `count` numbers, steadily, each with a key of its own or one of `keys`."""
        producer = await self.journal.producer()
        end = self.sent + count
        while self.sent < end:
            numbers = range(self.sent, min(end, self.sent + batch))
            outcome = await producer.produce(
                [NewRecord(self.topic, b'%d' % n, b'key-%d' % (n % keys)) for n in numbers]
            )
            assert all(isinstance(offset, int) for offset in outcome)
            self.sent += len(numbers)
            await asyncio.sleep(pause_s)
        await producer.close()

    async def output(self) -> collections.Counter[int]:
        """Return how often each number is in the output."""
        where = [TopicPartition(self.out, number) for number in range(OUT_PARTITIONS)]
        ends = await self.journal.offsets(where, 'end')
        reader = await self.journal.reader()
        await reader.assign(dict.fromkeys(where, 0))
        found: collections.Counter[int] = collections.Counter()
        while any(reader.position(partition) < end for partition, end in ends.items()):
            for record in await reader.fetch(5_000, 0.5):
                found[int(record.value or b'0')] += 1
        await reader.close()
        return found

    async def complete(self, timeout_s: float = 60) -> collections.Counter[int]:
        """Wait until every number is in the output; return how often each one is."""
        wanted = set(range(self.sent))
        deadline = time.monotonic() + timeout_s
        while not wanted <= (found := await self.output()).keys():
            missing = sorted(wanted - found.keys())
            assert time.monotonic() < deadline, f'{len(missing)} are missing: {missing[:10]}'
            await asyncio.sleep(0.2)
        return found

    async def table(self, timeout_s: float = 30) -> dict[str, int]:
        """Return the whole table, as soon as the workers' parts hold every number."""
        deadline = time.monotonic() + timeout_s
        while True:
            parts = [await worker.seen() for worker in self.workers]
            found = {key: count for part in parts for key, count in part.items()}
            if len(found) == self.sent and sum(map(len, parts)) == self.sent:
                return found
            assert time.monotonic() < deadline, [len(part) for part in parts]
            await asyncio.sleep(0.2)
