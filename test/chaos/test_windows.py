"""Windows on a real Kafka, while their workers are killed and share partitions anew."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from service_scaffold.journal.base import Journal, NewRecord, TopicPartition
from test.brokers.process import Broker
from test.chaos.stream_workers import PARTITIONS, Fleet

BASE_MS = round(time.time()) * 1000  # the log forgets what is a week old
STEP_MS = 10
GRACE_MS = 500
KEYS = 20
CLOSED_PARTITIONS = 3

Final = tuple[str, float, int]
"""Key, start of the window, value."""


@pytest.fixture
def fleet(journal: Journal, kafka: Broker, unique: str, tmp_path: Path) -> Callable[..., Fleet]:
    """Make a fleet of workers with the options that are given."""
    return lambda **options: Fleet(journal, kafka.url, unique, tmp_path, windows=1, **options)


def events(count: int) -> list[tuple[int, str, int]]:
    """Return time, key and number of events, each up to the grace later than it should be."""
    rng = random.Random(count)
    made = [(BASE_MS + n * STEP_MS, f'key-{n % KEYS}', n) for n in range(count)]
    return sorted(made, key=lambda event: event[0] + rng.uniform(0, GRACE_MS - STEP_MS))


def batch(made: list[tuple[int, str, int]]) -> Counter[Final]:
    """Return each key's sum in each second, once."""
    sums: Counter[tuple[str, float]] = Counter()
    for at_ms, key, number in made:
        sums[key, at_ms // 1000 * 1.0] += number
    return Counter((key, start, value) for (key, start), value in sums.items())


async def produce(fleet: Fleet, made: list[tuple[int, str, int]], pause_s: float) -> None:
    """Send events, and at last one to each partition that closes what is open."""
    producer = await fleet.journal.producer()
    for first in range(0, len(made), 50):
        records = [
            NewRecord(fleet.topic, b'%d' % number, key.encode(), timestamp=at_ms)
            for at_ms, key, number in made[first : first + 50]
        ]
        assert all(isinstance(offset, int) for offset in await producer.produce(records))
        await asyncio.sleep(pause_s)
    end_ms = BASE_MS + 600_000
    await producer.produce(
        [NewRecord(fleet.topic, b'1', b'end', (), n, end_ms) for n in range(PARTITIONS)]
    )
    await producer.close()


async def finals(fleet: Fleet, topic: str) -> Counter[Final]:
    """Return what was committed to a topic."""
    where = [TopicPartition(f'{fleet.topic}.{topic}', n) for n in range(CLOSED_PARTITIONS)]
    counts = await fleet.journal.partitions([where[0].topic])
    if counts[where[0].topic] is None:
        return Counter()
    ends = await fleet.journal.offsets(where, 'end')
    reader = await fleet.journal.reader()
    await reader.assign(dict.fromkeys(where, 0))
    found: Counter[Final] = Counter()
    while any(reader.position(partition) < end for partition, end in ends.items()):
        for record in await reader.fetch(5_000, 0.5):
            found[tuple(json.loads(record.value or b'null'))] += 1
    await reader.close()
    return found


async def complete(fleet: Fleet, wanted: Counter[Final], timeout_s: float = 60) -> Counter[Final]:
    """Wait until every window has closed."""
    deadline = time.monotonic() + timeout_s
    while not wanted.keys() <= (found := await finals(fleet, 'closed')).keys():
        missing = sorted(wanted.keys() - found.keys())
        assert time.monotonic() < deadline, f'{len(missing)} are missing: {missing[:5]}'
        await asyncio.sleep(0.2)
    return found


async def test_each_window_closes_once_however_often_its_workers_are_killed(
    fleet: Callable[..., Fleet],
) -> None:
    """Two workers, of which one is killed again and again: one final record, and the right one."""
    made = events(4_000)
    wanted = batch(made)
    async with fleet(processing_guarantee='exactly_once', store='sqlite://') as it:
        it.start()
        producing = asyncio.create_task(produce(it, made, 0.2))
        for number in range(5):
            worker = it.start()
            await worker.ready()
            await asyncio.sleep(random.uniform(0.2, 1.5))
            it.remove(worker if number % 2 else it.workers[0])
        it.start()
        await producing
        assert await complete(it, wanted) == wanted
        assert not await finals(it, 'late')


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
async def test_windows_move_with_their_partitions(
    fleet: Callable[..., Fleet], guarantee: str
) -> None:
    """Workers that join, and leave in order, close each window once."""
    made = events(2_000)
    wanted = batch(made)
    async with fleet(processing_guarantee=guarantee) as it:
        producing = asyncio.create_task(produce(it, made, 0.25))
        first = it.start()
        await first.ready()
        await it.start().ready()
        await asyncio.sleep(1)
        assert await first.terminate() == 0
        it.workers.remove(first)
        await it.start().ready()
        await producing
        assert await complete(it, wanted) == wanted


async def test_at_least_once_repeats_final_records_and_changes_none(
    fleet: Callable[..., Fleet],
) -> None:
    """After a SIGKILL a window may close again, with the same value."""
    made = events(2_000)
    wanted = batch(made)
    async with fleet(processing_guarantee='at_least_once', store='sqlite://') as it:
        producing = asyncio.create_task(produce(it, made, 0.25))
        for _ in range(3):
            worker = it.start()
            await worker.ready()
            await asyncio.sleep(random.uniform(0.5, 2))
            it.remove(worker)
        it.start()
        await producing
        assert (await complete(it, wanted)).keys() == wanted.keys()
