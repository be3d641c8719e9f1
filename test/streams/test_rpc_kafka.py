"""Asking agents over a real Kafka: several workers, both guarantees."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager
from time import monotonic

import pytest
from aiohttp import web

from service_scaffold import errors, features, options, scheduler, streams
from service_scaffold.journal.kafka import KafkaJournal
from service_scaffold.journal.kafka_client import Access
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.worker import Worker
from service_scaffold.testing.conformance.inbox import eventually

START_S = 60.0


class Instance:
    """One worker of an application, in this process.

    Attributes:
        topology: What to declare on, before `running`.
    """

    def __init__(self, url: str, settings: StreamSettings) -> None:
        self.app = web.Application()
        parser = options.create_parser(settings.id)
        options.store_config(self.app, options.parse(parser, ['--eventbus-url', url]))
        scheduler.setup(self.app)
        streams.setup(self.app, settings)
        self.topology = streams.get_streams(self.app)

    @asynccontextmanager
    async def running(self):
        lifecycle = features.get_lifecycle(self.app)
        await lifecycle.start()
        try:
            async with asyncio.timeout(START_S):
                await features.get(self.app, Worker).until_joined()
            yield self
        finally:
            await lifecycle.shutdown()

    @property
    def partitions(self) -> int:
        session = features.get(self.app, Worker).session
        return 0 if session is None else len(session.tasks)


def declare(app: Topology):
    @app.agent()
    async def double(stream):
        async for n in stream:
            if n == 'bad':
                raise ValueError('bad')
            if n != 'silent':
                yield n * 2

    return double


@pytest.fixture(params=['at_least_once', 'exactly_once'])
def settings(request, unique):
    return StreamSettings(unique, guarantee=request.param, topic_partitions=4, checkpoint_s=60.0)


@pytest.fixture
async def topics(kafka):
    """Asks the broker which topics there are."""
    host, _, port = kafka.url.removeprefix('kafka://').partition(':')
    journal = KafkaJournal(Access([(host, int(port))]))
    await journal.connect()

    async def exist(name: str) -> bool:
        return (await journal.partitions([name]))[name] is not None

    yield exist
    await journal.close()


async def test_asking(kafka, settings, topics):
    """Nobody waits for a checkpoint: those of this worker are a minute apart."""
    one = Instance(kafka.url, settings)
    double = declare(one.topology)
    async with one.running():
        assert await double.ask(4, timeout=20) == 8
        began = monotonic()
        for n in range(10):
            assert await double.ask(n) == n * 2
        assert monotonic() - began < 10
        assert await double.join(range(1000), timeout=30) == [n * 2 for n in range(1000)]
        with pytest.raises(errors.RemoteError, match='ValueError: bad'):
            await double.ask('bad', timeout=20)
        with pytest.raises(TimeoutError, match=r'double has not answered within 0\.5 s'):
            await double.ask('silent', timeout=0.5)
        desk = one.topology.calls.reply_to
        assert await topics(desk)
    async with asyncio.timeout(10):
        while await topics(desk):  # noqa: ASYNC110 - the broker does not tell
            await asyncio.sleep(0.05)


async def test_two_workers_answer_each_other(kafka, settings):
    one, two = Instance(kafka.url, settings), Instance(kafka.url, settings)
    first, second = declare(one.topology), declare(two.topology)
    async with one.running(), two.running():
        await eventually(lambda: (one.partitions, two.partitions) == (2, 2), 30)
        pairs = [(str(n), n) for n in range(200)]
        found = await asyncio.gather(
            first.kvjoin(pairs, timeout=30), second.kvjoin(pairs, timeout=30)
        )
        assert found == [[n * 2 for n in range(200)]] * 2
        assert first.stats.processed > 0
        assert second.stats.processed > 0
        assert first.stats.processed + second.stats.processed >= 400


async def test_an_agent_that_hangs_does_not_hang_whoever_asks(kafka, settings):
    one = Instance(kafka.url, dataclasses.replace(settings, drain_s=0.1))

    @one.topology.agent()
    async def dead(stream):
        async for n in stream:
            await asyncio.get_running_loop().create_future()
            yield n

    async with one.running():
        with pytest.raises(TimeoutError, match='Agent dead has not answered within 1 s'):
            await dead.ask(1, timeout=1.0)
        question = dead.ask_nowait(2)
        await eventually(lambda: len(one.topology.calls) == 1)
    with pytest.raises(errors.ConnectionLost, match='application stops'):
        await question
    assert len(one.topology.calls) == 0


async def test_answers_come_while_workers_leave(kafka, settings):
    """What the one that leaves has not answered is answered by the one that stays."""
    one, two = Instance(kafka.url, settings), Instance(kafka.url, settings)
    first = declare(one.topology)
    declare(two.topology)
    async with one.running():
        async with two.running():
            await eventually(lambda: (one.partitions, two.partitions) == (2, 2), 30)
            pairs = [(str(n), n) for n in range(2000)]
            asked = asyncio.ensure_future(first.kvjoin(pairs, timeout=60))
            await eventually(lambda: first.stats.processed > 0, 30)
        assert await asked == [n * 2 for n in range(2000)]


async def test_an_agent_of_a_channel_sends_to_topics(kafka, settings):
    """In order, also what was put before there was a connection."""
    one = Instance(kafka.url, settings)
    app = one.topology
    channel, out = app.channel(), app.topic(f'{app.id}-out', partitions=1)
    found: list[int] = []

    @app.agent(channel, sink=[out])
    async def work(stream):
        async for n in stream:
            yield n

    @app.agent(out)
    async def see(stream):
        async for n in stream:
            found.append(n)

    for n in range(1000):
        await channel.put(n)
    async with one.running():
        for n in range(1000, 3000):
            await channel.put(n)
        await eventually(lambda: len(found) >= 3000, 30)
        assert found == list(range(3000))
        assert await double_of(app) == 8


async def double_of(app: Topology) -> int:
    answer: int = await app.agents['work'].ask(8)
    return answer
