"""Streams on a real Kafka: what is missing at the start, hangs, or is cut."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from service_scaffold.journal.base import Journal, TopicSpec
from test.brokers.process import Broker
from test.chaos.stream_workers import Fleet, connected


async def test_a_topic_that_is_missing_is_read_soon_after_it_is_made(
    journal: Journal, kafka: Broker, unique: str, tmp_path: Path
) -> None:
    """Within 5 s of its creation, with what it holds by then; the status names it meanwhile."""
    async with Fleet(journal, kafka.url, unique, tmp_path, declared=0) as it:
        worker = it.start()
        await worker.answers()
        async with asyncio.timeout(15):
            while unique not in str(await worker.status()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await journal.create([TopicSpec(unique, 4), TopicSpec(it.out, 3)])
        await it.produce(100)
        began = time.monotonic()
        await it.complete(10)
        assert time.monotonic() - began < 5 + 2.8  # and the checkpoint


async def test_a_worker_waits_for_its_broker(kafka: Broker, unique: str, tmp_path: Path) -> None:
    """It lives, is not ready, and works soon after the broker has come; a signal ends it."""
    kafka.kill()
    async with Fleet(None, kafka.url, unique, tmp_path) as it:
        worker, other = it.start(), it.start()
        await worker.answers()
        await other.answers()
        assert not await worker.is_ready()
        began = time.monotonic()
        assert await other.terminate() == 0
        assert time.monotonic() - began < 2
        it.remove(other)
        await asyncio.to_thread(kafka.start)
        it.journal = await connected(kafka.url)
        await worker.ready(40)
        await it.produce(100)
        await it.complete(20)
        await it.journal.close()


async def test_what_hangs_is_where_the_next_one_begins(
    journal: Journal, kafka: Broker, unique: str, tmp_path: Path
) -> None:
    """Others go on behind it; killed, and started again, only the one that hung comes again."""
    fleet = Fleet(
        journal, kafka.url, unique, tmp_path, concurrency=8, hangs_at=10, store='sqlite://'
    )
    async with fleet as it:
        worker = it.start()
        await worker.ready()
        await it.produce(400)
        async with asyncio.timeout(30):
            while len(await it.output()) < 300:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        await asyncio.sleep(4)  # a checkpoint, and not one event in hand but the one that hangs
        before = await it.output()
        assert 10 not in before
        it.remove(worker)
        it.start(hangs_at=-1)
        found = await it.complete(30)
        assert all(found[number] == 1 for number in before)
        assert set((await it.table()).values()) == {1}


async def test_more_workers_than_partitions_stand_by(
    journal: Journal, kafka: Broker, unique: str, tmp_path: Path
) -> None:
    """One without partitions is ready, and takes over from one that leaves."""
    fleet = Fleet(journal, kafka.url, unique, tmp_path, processing_guarantee='exactly_once')
    async with fleet as it:
        workers = [it.start() for _ in range(5)]
        for worker in workers:
            await worker.ready()
        await it.produce(200)
        await it.complete()
        for worker in workers[:4]:
            assert await worker.terminate() == 0
            it.workers.remove(worker)
        await it.produce(200)
        assert set((await it.complete(30)).values()) == {1}
        assert set((await it.table()).values()) == {1}


async def test_a_connection_that_is_cut_and_falls_silent_costs_nothing(
    journal: Journal, kafka: Broker, unique: str, tmp_path: Path
) -> None:
    """Through a proxy that cuts, and then lets nothing through for a while."""
    fleet = Fleet(
        journal,
        kafka.proxied_url,
        unique,
        tmp_path,
        processing_guarantee='exactly_once',
        store='sqlite://',
    )
    async with fleet as it:
        await it.start().ready()
        producing = asyncio.create_task(it.produce(1_500, pause_s=0.5))
        await asyncio.sleep(3)
        kafka.proxy.drop_connections()
        await asyncio.sleep(3)
        kafka.proxy.half_open()
        await asyncio.sleep(14)
        kafka.restore()
        await producing
        assert set((await it.complete(90)).values()) == {1}
        assert set((await it.table()).values()) == {1}
