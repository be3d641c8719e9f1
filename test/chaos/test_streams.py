"""Streams on a real Kafka, with real processes that are killed, join and leave."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service_scaffold.journal.base import Journal, TopicPartition
from test.brokers.process import Broker
from test.chaos.stream_workers import Fleet, StreamWorker, connected

KILLS = 30
KEYS = 20
SESSION_S = 10.0


@pytest.fixture
def fleet(journal: Journal, kafka: Broker, unique: str, tmp_path: Path) -> Callable[..., Fleet]:
    """Make a fleet of workers with the options that are given."""
    return lambda **options: Fleet(journal, kafka.url, unique, tmp_path, **options)


@pytest.mark.timeout(240)
async def test_exactly_once_survives_thirty_sigkills(
    journal: Journal, kafka: Broker, unique: str, tmp_path: Path
) -> None:
    """Each number is in the output once, and counted once, however often the worker is killed."""

    async def survive(name: str, kills: int) -> None:
        (directory := tmp_path / name).mkdir()
        options = {'processing_guarantee': 'exactly_once', 'store': 'sqlite://'}
        async with Fleet(journal, kafka.url, f'{unique}-{name}', directory, **options) as it:
            producing = asyncio.create_task(it.produce(kills * 200, pause_s=0.35))
            for _ in range(kills):
                worker = it.start()
                await worker.ready()
                await asyncio.sleep(random.uniform(0.2, 1.2))  # somewhere in a transaction
                it.remove(worker)
            it.start()
            await producing
            found = await it.complete()
            assert set(found.values()) == {1}
            assert sum((await it.table()).values()) == it.sent

    async with asyncio.TaskGroup() as both:  # side by side, as a start is mostly waiting
        for name in ('one', 'other'):
            both.create_task(survive(name, KILLS // 2))


async def test_every_output_of_exactly_once_lies_in_a_transaction(
    fleet: Callable[..., Fleet],
) -> None:
    """Also in a topic that nobody reads: its partition ends with a marker that is no record."""
    async with fleet(processing_guarantee='exactly_once') as it:
        it.start()
        await it.produce(200)
        found = await it.complete()
        where = [TopicPartition(it.out, number) for number in range(3)]
        ends = await it.journal.offsets(where, 'end')
        assert sum(found.values()) == 200
        assert sum(ends.values()) > 200, 'no markers'


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
async def test_workers_that_come_and_go_leave_the_table_right(
    fleet: Callable[..., Fleet], guarantee: str
) -> None:
    """A runs, B joins, A leaves, C joins, A comes back: nothing is lost, nothing counted twice."""
    async with fleet(processing_guarantee=guarantee, store='sqlite://') as it:
        producing = asyncio.create_task(it.produce(3_000, pause_s=0.25))
        first = it.start()
        await first.ready()
        second = it.start()
        await second.ready()
        assert await first.terminate() == 0
        it.workers.remove(first)
        third = it.start()
        await third.ready()
        await it.start().ready()
        assert await second.terminate() == 0
        it.workers.remove(second)
        await producing
        found = await it.complete()
        assert set(found.values()) == {1}
        assert set((await it.table()).values()) == {1}


async def test_at_least_once_loses_nothing_and_counts_nothing_twice_when_killed(
    fleet: Callable[..., Fleet],
) -> None:
    """What was sent may come again; the table takes back what was not committed."""
    async with fleet(processing_guarantee='at_least_once', store='sqlite://') as it:
        producing = asyncio.create_task(it.produce(2_000, pause_s=0.25))
        for _ in range(4):
            worker = it.start()
            await worker.ready()
            await asyncio.sleep(random.uniform(1, 3))
            it.remove(worker)
        it.start()
        await producing
        await it.complete()
        assert set((await it.table()).values()) == {1}


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
async def test_a_worker_that_stood_still_spoils_nothing_that_its_successor_has_done(
    fleet: Callable[..., Fleet], guarantee: str, tmp_path: Path
) -> None:
    """SIGSTOP in the middle of its work until the other has taken over, then SIGCONT.

    Its old counts must not come after the new ones in the changelog, from which a third starts.
    """
    async with fleet(processing_guarantee=guarantee, store='sqlite://', routed=1) as it:
        frozen, other = it.start(), it.start()
        await frozen.ready()
        await other.ready()
        producing = asyncio.create_task(it.produce(3_000, pause_s=0.02, keys=KEYS))
        await asyncio.sleep(random.uniform(0.3, 0.9))
        assert not producing.done()
        with frozen.stopped():
            await producing
            await counted(it, other, SESSION_S + 10)
        await counted(it, frozen)
        for worker in (frozen, other):
            assert await worker.terminate() == 0
        third = it.start(datadir=tmp_path / 'empty')
        await third.ready()
        await counted(it, third)


async def counted(fleet: Fleet, worker: StreamWorker, timeout_s: float = 30) -> None:
    """Wait until the counts of all keys are as many as the numbers that were sent."""
    deadline = time.monotonic() + timeout_s
    while True:
        answers = [await worker.ask(f'/counts/key-{number}') for number in range(KEYS)]
        found = sum(answer[1]['count'] for answer in answers if answer and answer[0] == 200)
        if found == fleet.sent:
            return
        assert found < fleet.sent
        assert time.monotonic() < deadline, f'{found} of {fleet.sent} are counted'
        await asyncio.sleep(0.2)


@pytest.mark.parametrize(('how', 'limit_s'), [('SIGKILL', SESSION_S + 5), ('SIGTERM', 2.0)])
async def test_a_worker_takes_over_in_time(
    fleet: Callable[..., Fleet], how: str, limit_s: float
) -> None:
    """The other one processes its partitions, with default settings."""
    async with fleet(processing_guarantee='exactly_once', store='sqlite://') as it:
        first, second = it.start(), it.start()
        await first.ready()
        await second.ready()
        await it.produce(200)
        await it.complete()
        began = time.monotonic()
        if how == 'SIGKILL':
            it.remove(first)
        else:
            assert await first.terminate() == 0
            it.workers.remove(first)
            began = time.monotonic()
        await it.produce(200, pause_s=0, batch=200)
        await it.complete(limit_s)
        assert time.monotonic() - began < limit_s


async def test_a_broker_that_is_killed_and_returns_costs_nothing(
    fleet: Callable[..., Fleet], kafka: Broker, journal: Journal
) -> None:
    """The worker goes on by itself: no loss, no duplicate, and commits advance again."""
    async with fleet(processing_guarantee='exactly_once', store='sqlite://') as it:
        worker = it.start()
        await worker.ready()
        await it.produce(500)
        await asyncio.to_thread(kafka.kill)
        await asyncio.sleep(SESSION_S + 2)  # as long as members are remembered
        await asyncio.to_thread(kafka.start)
        again = await connected(kafka.url)
        it.journal = again
        await it.produce(500)
        found = await it.complete(90)
        assert set(found.values()) == {1}
        assert set((await it.table()).values()) == {1}
        assert worker.process.poll() is None
        await again.close()
