"""Questions on a real Kafka, while whoever answers is killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from service_scaffold.journal.base import Journal
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.testing.conformance.inbox import eventually
from test.brokers.process import Broker
from test.chaos.stream_worker import declare_asked
from test.chaos.stream_workers import Fleet
from test.streams.test_rpc_kafka import Instance

SESSION_S = 10.0
WORK_S = 0.02


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
async def test_a_question_to_a_killed_worker_times_out_or_is_answered_by_the_next(
    journal: Journal, kafka: Broker, unique: str, tmp_path: Path, guarantee: str
) -> None:
    """None waits for ever, and none gets a wrong answer."""
    fleet = Fleet(journal, kafka.url, unique, tmp_path, asked=1, work_s=WORK_S)
    settings = StreamSettings(unique, guarantee=guarantee, topic_partitions=4)
    asker = Instance(kafka.url, settings)
    double = declare_asked(asker.topology, WORK_S)
    pairs = [(f'key-{n}', n) for n in range(200)]
    async with fleet, asker.running():
        worker = fleet.start(processing_guarantee=guarantee, topic_partitions=4)
        await worker.ready()
        await eventually(lambda: asker.partitions == 2, 30)
        hasty = [double.ask_nowait(n, key, timeout=SESSION_S - 3) for key, n in pairs]
        patient = asyncio.ensure_future(double.kvjoin(pairs, timeout=SESSION_S * 6))
        await eventually(lambda: double.stats.processed > 5, 30)
        await eventually(lambda: any(answer.done() for answer in hasty), 30)
        fleet.remove(worker)
        answers = await asyncio.gather(*hasty, return_exceptions=True)
        lost = [answer for answer in answers if isinstance(answer, TimeoutError)]
        assert 0 < len(lost) < len(pairs)
        assert all(
            isinstance(answer, TimeoutError) or answer == n * 2
            for answer, (_, n) in zip(answers, pairs, strict=True)
        )
        assert await patient == [n * 2 for _, n in pairs]
        assert len(asker.topology.calls) == 0
        await eventually(lambda: asker.partitions == 4, 30)
