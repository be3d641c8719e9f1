"""How far ahead agents are fed, and what can be committed then."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest

from service_scaffold.journal.base import Commit, NewRecord, TopicPartition, TopicSpec
from service_scaffold.journal.memory import MemoryJournal
from service_scaffold.streams.driver import Driver, drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.testing.conformance.inbox import eventually


@pytest.fixture(params=['at_least_once', 'exactly_once'])
def app(request: pytest.FixtureRequest) -> Topology:
    """An application with nothing declared."""
    return Topology(StreamSettings('shop', guarantee=request.param, drain_s=0.1))


async def _send_many(t: Driver, topic: str, keys: list[bytes]) -> MemoryJournal:
    """Append numbers, all at once; return the connection."""
    journal = MemoryJournal(t._broker)
    await journal.connect()
    await journal.create([TopicSpec(topic, 1)])
    producer = await journal.producer()
    await producer.produce([NewRecord(topic, b'%d' % n, key) for n, key in enumerate(keys)])
    return journal


async def _commit_of(journal: MemoryJournal, group: str, topic: str) -> Commit | None:
    where = TopicPartition(topic, 0)
    member = await journal.member(group, None)  # type: ignore[arg-type] # never joins
    return (await member.committed([where]))[where]


async def test_many_agents_that_finish_here_and_there_can_be_committed(app):
    """Together they would say more than a note can hold, if they were fed as far as one alone."""
    numbers = app.topic('numbers', value_type=int, partitions=1)
    chance = random.Random(1)
    waiting: list[asyncio.Future[None]] = []

    async def work(stream):
        async for _ in stream:
            if chance.random() < 0.5:  # many lanes stand still, others do not
                held = asyncio.get_running_loop().create_future()
                waiting.append(held)
                await held

    for number in range(12):
        app.agent(numbers, concurrency=64, name=f'agent-number-{number}')(work)

    async with drive(app) as t:
        await t.settle()
        keys = [b'%d' % chance.randrange(10_000) for _ in range(3_000)]
        journal = await _send_many(t, 'numbers', keys)
        committed = 0
        for _ in range(30):
            await eventually(lambda: waiting)
            await t.worker.session.flush()
            commit = await _commit_of(journal, 'shop', 'numbers')
            if commit is not None:
                assert commit.offset >= committed
                committed = commit.offset
            assert t.worker.error is None
            release, waiting[:] = waiting[:], []
            for held in release:
                held.set_result(None)
        assert commit is not None
        assert len(commit.note) > 100
        await journal.close()


async def test_a_checkpoint_waits_until_it_can_be_written_down(app, caplog):
    """One lane wants more for its batch than the gaps of the other leave room for."""
    numbers = app.topic('numbers', value_type=int, partitions=1)
    sums = app.Table('sums', default=int)
    sizes = [1, 100_000]

    @app.agent(numbers, concurrency=2)
    async def work(stream):
        async for batch in stream.take(sizes.pop(), within=5.0):
            sums['all'] += len(batch)

    async with drive(app) as t:
        await t.settle()
        chance = random.Random(1)
        keys = [b'%d' % chance.randrange(1_000) for _ in range(50_000)]
        with caplog.at_level(logging.WARNING):
            journal = await _send_many(t, 'numbers', keys)
            (task,) = t.worker.session.tasks.values()
            await eventually(lambda: task.position('numbers') == 50_000 and task.at_rest)
            await t.worker.session.flush()
        assert 'the checkpoint waits' in caplog.text
        await t.clock.advance(6)
        await eventually(lambda: not any(lane.current for lane in t.worker.session.lanes))
        await t.settle()

        assert t.worker.error is None
        assert sums['all'] == 50_000
        assert (await _commit_of(journal, 'shop', 'numbers')).offset >= 50_000
        await journal.close()
