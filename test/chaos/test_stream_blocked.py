"""An agent that blocks the event loop for longer than a session of the group lasts, on Kafka."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from service_scaffold.journal.base import Journal
from test.brokers.process import Broker
from test.chaos.stream_workers import Fleet, StreamWorker

SESSION_S = 6.0
"""The least that a Kafka allows."""
BLOCKED_S = 14.0
"""Longer than the session, and than the 10 s after which it is named, looked for four times."""
BLOCKS_AT = 120
TOTAL = 400
BLOCKED = 'event loop is blocked'


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
@pytest.mark.parametrize('count', [1, 2], ids=['alone', 'beside another'])
async def test_an_agent_that_blocks_the_loop_is_named_and_nothing_is_lost(
    journal: Journal, kafka: Broker, unique: str, tmp_path: Path, guarantee: str, count: int
) -> None:
    """Its session ends meanwhile; what it does afterwards with another's partitions is refused."""
    fleet = Fleet(
        journal,
        kafka.url,
        unique,
        tmp_path,
        processing_guarantee=guarantee,
        broker_commit_interval=0.5,
        broker_session_timeout=SESSION_S,
        blocks_at=BLOCKS_AT,
        blocks_s=BLOCKED_S,
        blocked=tmp_path / 'blocked',
        store='sqlite://',
    )
    async with fleet as it:
        workers = [it.start() for _ in range(count)]
        for worker in workers:
            await worker.ready()
        await it.produce(TOTAL, pause_s=0.1)

        await it.complete(90)
        await _settled(workers)
        counted = set((await it.table()).values())
        [log] = [log for log in (worker.log.read_text() for worker in workers) if BLOCKED in log]
        assert re.search(r'is blocked for 1\d\.\d s by \S*stream_worker\.py:\d+', log)
        assert 'time.sleep(' in log
        assert 'runs again; it was blocked for 1' in log
        for worker in workers:
            assert await worker.terminate() == 0
        found = await it.output()  # also what was sent late
        assert set(found) == set(range(TOTAL))
        if guarantee == 'exactly_once':
            assert counted == set(found.values()) == {1}


async def _settled(workers: list[StreamWorker]) -> None:
    async with asyncio.timeout(60):
        for worker in workers:
            await worker.ready()
