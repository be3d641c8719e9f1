"""Joins on a real Kafka, while their worker is killed."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from service_scaffold.journal.base import Journal, NewRecord, TopicPartition, TopicSpec
from test.brokers.process import Broker
from test.chaos.stream_workers import OUT_PARTITIONS, PARTITIONS, Fleet

KILLS = 5
COUNT = 3_000
BASE_MS = round(time.time()) * 1000  # the log forgets what is a week old
STEP_MS = 20
WITHIN_MS = 1_000
END_MS = BASE_MS + 3_000_000  # brokers refuse what is an hour ahead
LIMIT_S = 90.0

Value = tuple[int, int, str, int]
"""Time, side, key, number."""


@pytest.fixture
def fleet(journal: Journal, kafka: Broker, unique: str, tmp_path: Path) -> Callable[..., Fleet]:
    """Make a fleet of workers with the options that are given."""
    return lambda **options: Fleet(journal, kafka.url, unique, tmp_path, joins=1, **options)


def some(count: int) -> list[Value]:
    """Return values of both sides, a little out of order; about a third is alone."""
    rng = random.Random(count)
    made = [
        (BASE_MS + n * STEP_MS, rng.randrange(2), f'key-{rng.randrange(100)}', n)
        for n in range(count)
    ]
    return sorted(made, key=lambda value: value[0] + rng.uniform(0, 500))


def joined(made: list[Value]) -> Counter[tuple[int | None, int | None]]:
    """Return each pair, and each number that is alone, once."""
    by_key: dict[str, list[Value]] = {}
    for value in made:
        by_key.setdefault(value[2], []).append(value)
    pairs = [
        (left[3], right[3])
        for values in by_key.values()
        for left in values
        for right in values
        if (left[1], right[1]) == (0, 1) and abs(left[0] - right[0]) <= WITHIN_MS
    ]
    met = [{pair[side] for pair in pairs} for side in (0, 1)]
    alone = [value for value in made if value[3] not in met[value[1]]]
    return Counter([*pairs, *((n, None) if side == 0 else (None, n) for _, side, _, n in alone)])


async def produce(fleet: Fleet, made: list[Value], pause_s: float) -> None:
    """Send all values steadily, and at last what ends the time of those that are alone."""
    topics = (fleet.topic, f'{fleet.topic}.right')
    producer = await fleet.journal.producer()
    for first in range(0, len(made), 50):
        records = [
            NewRecord(topics[side], b'%d' % n, key.encode(), timestamp=at_ms)
            for at_ms, side, key, n in made[first : first + 50]
        ]
        assert all(isinstance(offset, int) for offset in await producer.produce(records))
        await asyncio.sleep(pause_s)
    ends = [NewRecord(topics[0], b'-1', b'end', (), n, END_MS) for n in range(PARTITIONS)]
    assert all(isinstance(offset, int) for offset in await producer.produce(ends))
    await producer.close()


async def output(fleet: Fleet) -> Counter[tuple[int | None, int | None]]:
    """Return what is committed."""
    where = [TopicPartition(fleet.out, number) for number in range(OUT_PARTITIONS)]
    ends = await fleet.journal.offsets(where, 'end')
    reader = await fleet.journal.reader()
    await reader.assign(dict.fromkeys(where, 0))
    found: Counter[tuple[int | None, int | None]] = Counter()
    while any(reader.position(partition) < end for partition, end in ends.items()):
        for record in await reader.fetch(5_000, 0.5):
            left, right = json.loads(record.value or b'[null,null]')
            found[left, right] += 1
    await reader.close()
    return found


@pytest.mark.parametrize('guarantee', ['exactly_once', 'at_least_once'])
async def test_each_pair_and_each_that_is_alone_comes_once(
    fleet: Callable[..., Fleet], guarantee: str
) -> None:
    """However often the worker is killed; under at-least-once they may come again."""
    made = some(COUNT)
    wanted = joined(made)
    async with fleet(processing_guarantee=guarantee, store='sqlite://') as it:
        await it.journal.create([TopicSpec(f'{it.topic}.right', PARTITIONS)])
        producing = asyncio.create_task(produce(it, made, pause_s=0.25))
        for _ in range(KILLS):
            worker = it.start()
            await worker.ready()
            await asyncio.sleep(random.uniform(0.5, 2.0))  # somewhere in a transaction
            it.remove(worker)
        it.start()
        await producing
        deadline = time.monotonic() + LIMIT_S
        while wanted - (found := await output(it)):
            assert time.monotonic() < deadline, f'missing: {list((wanted - found).items())[:10]}'
            await asyncio.sleep(0.2)
        if guarantee == 'exactly_once':
            assert found == wanted
        else:
            assert found.keys() == wanted.keys()
