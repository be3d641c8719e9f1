"""Pages that any worker answers, on a real Kafka, with real processes that recover and die."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from service_scaffold.journal.base import Journal, NewRecord, TopicSpec
from service_scaffold.journal.partitioner import partition_of
from test.brokers.process import Broker
from test.chaos.stream_workers import PARTITIONS, Fleet, StreamWorker

LOGGED = 100_000
KEYS = [f'key-{n}' for n in range(24)]
TAKEN_OVER_S = 25.0
"""A session of 10 s, and what a loaded machine needs besides."""


async def fill(journal: Journal, changelog: str, count: int) -> None:
    """Log a 1 under `count` keys, where a worker would."""
    await journal.create([TopicSpec(changelog, PARTITIONS, 1, {'cleanup.policy': 'compact'})])
    producer = await journal.producer()
    for start in range(0, count, 10_000):
        keys = [b'key-%d' % n for n in range(start, min(count, start + 10_000))]
        outcomes = await producer.produce(
            [NewRecord(changelog, b'1', key, (), partition_of(key, PARTITIONS)) for key in keys]
        )
        assert all(isinstance(outcome, int) for outcome in outcomes)
    await producer.close()


async def until_answered(worker: StreamWorker, path: str, limit_s: float) -> list[int]:
    """Ask until the answer is a 200; return the statuses before. Others than 503 are mistakes."""
    statuses: list[int] = []
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        answer = await worker.ask(path)
        assert answer is not None
        status, found, headers = answer
        if status == 200:
            assert found['count'] == 1
            return statuses
        assert status == 503, (status, found)
        assert int(headers['Retry-After']) >= 1
        statuses.append(status)
        await asyncio.sleep(0.1)
    raise AssertionError(f'{path}: no answer within {limit_s:g} s: {statuses}')


async def test_pages_while_recovering_and_while_the_owner_dies(
    journal: Journal, kafka: Broker, unique: str, tmp_path: Path
) -> None:
    """Scenario 33: progress and Retry-After meanwhile; then the owner answers, whoever is asked."""
    await fill(journal, f'{unique}-counts-changelog', LOGGED)
    options = {'routed': 1, 'store': 'memory://', 'door': tmp_path / 'door'}
    async with Fleet(journal, kafka.url, unique, tmp_path, **options) as it:
        first = it.start()
        await first.answers()
        recovery = {'total': 0}
        async with asyncio.timeout(30):
            while recovery['total'] == 0 or recovery['percent'] < 100:
                answer = await first.ask('/counts/key-1')
                assert answer is not None
                status, problem, headers = answer
                assert status == 503
                assert int(headers['Retry-After']) >= 1
                recovery = problem.get('recovery', recovery)
        assert LOGGED / PARTITIONS * 0.9 < recovery['total'] < LOGGED / PARTITIONS * 1.1
        assert 'is being recovered' in problem['detail']
        assert not await first.is_ready()

        (tmp_path / 'door').touch()
        await until_answered(first, '/counts/key-1', 10)
        second = it.start()
        await second.ready()
        owners = await self_consistent(first, second)
        assert len(set(owners.values())) == 2

        theirs = [key for key in KEYS if owners[key] == port_of(first)]
        it.remove(first)
        before = [await until_answered(second, f'/counts/{key}', TAKEN_OVER_S) for key in theirs]
        assert before[0], 'nobody had to wait for the next owner'
        assert {owners[key] for key in KEYS} != {await owner(second, key) for key in KEYS}


def port_of(worker: StreamWorker) -> int:
    return int(worker.base.split(':')[2].split('/')[0])


async def owner(worker: StreamWorker, key: str) -> int:
    """Return who has answered for a key."""
    answer = await worker.ask(f'/counts/{key}')
    assert answer is not None
    assert answer[0] == 200, answer
    return int(answer[1]['port'])


async def self_consistent(first: StreamWorker, second: StreamWorker) -> dict[str, int]:
    """Return who answers for each key, as soon as it is the same whoever is asked."""
    deadline = time.monotonic() + 30
    while True:
        for worker in (first, second):
            for key in KEYS:
                await until_answered(worker, f'/counts/{key}', 30)
        found = {key: await owner(first, key) for key in KEYS}
        if found == {key: await owner(second, key) for key in KEYS} and len({*found.values()}) == 2:
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.2)
