"""Several workers of one application in this process, on one log, each with its HTTP server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from service_scaffold import errors, features, options, scheduler
from service_scaffold.journal.base import Journal, NewRecord, TopicPartition
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.stores.base import Backend
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.worker import Worker
from service_scaffold.streams.workplace import Workplace

LIMIT_S = 30.0
LOOK_S = 0.02

Declare = Callable[[Topology], None]


@dataclass(frozen=True)
class SharedLog:
    """A log, and an application that is nobody else's there.

    Attributes:
        id: Of the application; names of topics begin with it.
        open_journal: Makes a connection.
    """

    id: str
    open_journal: Callable[[], Journal]


@dataclass
class Peer:
    """One worker.

    Attributes:
        topology: What it runs; each has its own.
        url: Of its HTTP server.
    """

    topology: Topology
    app: web.Application
    worker: Worker
    runner: web.AppRunner
    url: str = ''

    @property
    def id(self) -> str:
        assert self.worker.session is not None
        return self.worker.session.neighbours.id

    @property
    def copies(self) -> dict[tuple[str, int], Any]:
        session = self.worker.session
        return {} if session is None else session.neighbours.copies.by_place

    def owns(self, table: str) -> set[int]:
        return set(self.topology.tables[table].here)


class Crew:
    """Starts and stops peers.

    Args:
        log: What they share.
        settings: See `StreamSettings`.
        declare: Declares the application on a topology of a peer.
        routes: Adds its routes to an aiohttp application, given the topology.

    Attributes:
        stores: Those of all peers that join, None for stores of their own.
        settings: Of all of them.
    """

    def __init__(
        self,
        log: SharedLog,
        declare: Declare,
        routes: Callable[[web.Application, Topology], None] | None = None,
        **settings: Any,
    ) -> None:
        self.peers: list[Peer] = []
        self.client = aiohttp.ClientSession()
        self._id = log.id
        self.stores: Backend | None = None
        self.settings = StreamSettings(log.id, checkpoint_s=0.05, **settings)
        self._open_journal = log.open_journal
        self._declare = declare
        self._routes = routes

    async def join(self) -> Peer:
        """Start one more worker, and wait until it has its partitions."""
        peer = await self.start()
        async with asyncio.timeout(LIMIT_S):
            await peer.worker.until_joined()
        return peer

    async def start(self) -> Peer:
        """Start one more worker."""
        app = web.Application()
        options.store_config(app, options.parse(options.create_parser('shop'), []))
        scheduler.setup(app)
        topology = Topology(self.settings)
        self._declare(topology)
        worker = Worker(
            app, topology, self._open_journal, lambda: Workplace(self.settings, self.stores)
        )
        features.add(app, worker)
        features.add(app, topology)
        if self._routes is not None:
            self._routes(app, topology)
        runner = web.AppRunner(app)
        peer = Peer(topology, app, worker, runner)
        self.peers.append(peer)
        await runner.setup()
        site = web.TCPSite(runner, '127.0.0.1', 0)
        await site.start()
        features.get_lifecycle(app).address = runner.addresses[0][:2]
        peer.url = 'http://{}:{}'.format(*runner.addresses[0])
        return peer

    async def leave(self, peer: Peer) -> None:
        """Stop a worker in order."""
        self.peers.remove(peer)
        await peer.runner.cleanup()

    async def send(self, topic: str, *pairs: tuple[str, bytes]) -> None:
        """Append values to a topic of the application, each to the partition of its key."""
        journal = self._open_journal()
        await journal.connect()
        try:
            producer = await journal.producer()
            records = [
                NewRecord(f'{self._id}-{topic}', value, key.encode()) for key, value in pairs
            ]
            for outcome in await producer.produce(records):
                assert isinstance(outcome, int), outcome
        finally:
            await journal.close()

    async def end_of(self, topic: str, partitions: int) -> int:
        """Return how many records a topic has, counted in offsets."""
        journal = self._open_journal()
        await journal.connect()
        try:
            where = [TopicPartition(f'{self._id}-{topic}', number) for number in range(partitions)]
            return sum((await journal.offsets(where, 'end')).values())
        finally:
            await journal.close()

    async def get(self, peer: Peer, path: str, **options: Any) -> tuple[int, Any, Any]:
        """Ask a worker; return status, JSON and headers."""
        async with self.client.get(peer.url + path, **options) as answer:
            return answer.status, await answer.json(content_type=None), answer.headers

    async def close(self) -> None:
        """Stop all."""
        await self.client.close()
        for peer in self.peers[::-1]:
            await peer.runner.cleanup()


async def until(condition: Callable[[], Any], limit_s: float = LIMIT_S) -> Any:
    """Wait until something is true, of which nobody tells; return it.

    Raises:
        TimeoutError: It is not, for so long.
    """
    deadline = time.monotonic() + limit_s
    while True:
        try:
            found = condition()
            if isinstance(found, Awaitable):
                found = await found
        except errors.NotOwned:  # partitions are on their way
            found = None
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f'not true within {limit_s:g} s')
        await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def crew_of(*args: Any, **kwargs: Any) -> AsyncIterator[Crew]:
    """Return a crew that is closed at the end."""
    crew = Crew(*args, **kwargs)
    try:
        yield crew
    finally:
        await crew.close()
