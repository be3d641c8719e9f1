"""A recovery goes on where it was, however often partitions are shared out anew meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from service_scaffold.journal.base import (
    Journal,
    NewRecord,
    Reader,
    Record,
    TopicPartition,
    TopicSpec,
)
from service_scaffold.streams.topology import Topology
from test.streams.several import Crew, Peer, SharedLog, crew_of, until

RECORDS = int(os.environ.get('RECOVERY_RECORDS', '100000'))
"""Of the changelog; a million of them takes a minute."""
PARTITIONS = 4
LIMIT_S = 120.0


class Reading:
    """What the recoveries of one worker read."""

    def __init__(self) -> None:
        self.read = 0
        self.again = 0
        self._position: dict[int, int] = {}

    def on_restore_start(self, table: str, partition: int, start: int, end: int) -> None:
        self.again += max(0, self._position.get(partition, 0) - start)

    def on_restore_batch(self, table: str, partition: int, offset: int, count: int) -> None:
        self.read += count
        self._position[partition] = offset

    def on_restore_end(self, table: str, partition: int, read: int) -> None: ...

    def on_restore_suspended(self, table: str, partition: int, read: int) -> None: ...


class Gate:
    """Lets so many records of changelogs be read, and no more.

    Else a table would be here before the other workers are in the group.
    """

    def __init__(self) -> None:
        self.left = 0
        self._moved = asyncio.Event()

    def open(self, share: float) -> None:
        self.left += int(share * RECORDS)
        self._moved.set()

    async def passes(self) -> None:
        while self.left <= 0:
            self._moved.clear()
            await self._moved.wait()


class GatedReader:
    """A reader; behind the gate, if it is of changelogs."""

    def __init__(self, reader: Reader, gate: Gate) -> None:
        self._reader = reader
        self._gate = gate
        self._gated = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def assign(self, positions: dict[TopicPartition, int]) -> None:
        self._gated = any(topic.endswith('-changelog') for topic, _ in positions)
        await self._reader.assign(positions)

    async def fetch(self, limit: int, wait_s: float) -> Sequence[Record]:
        if self._gated:
            await self._gate.passes()
        records = await self._reader.fetch(limit, wait_s)
        if self._gated:
            self._gate.left -= len(records)
        return records


class GatedJournal:
    """A connection whose changelogs are behind the gate."""

    def __init__(self, journal: Journal, gate: Gate) -> None:
        self._journal = journal
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def reader(self, **options: Any) -> GatedReader:
        return GatedReader(await self._journal.reader(**options), self._gate)


async def fill(log: SharedLog, count: int) -> None:
    """Log `count` keys as the changelog of a table."""
    changelog = f'{log.id}-counts-changelog'
    journal = log.open_journal()
    await journal.connect()
    try:
        await journal.create([TopicSpec(changelog, PARTITIONS, 1, {'cleanup.policy': 'compact'})])
        producer = await journal.producer()
        for start in range(0, count, 10_000):
            numbers = range(start, min(count, start + 10_000))
            outcomes = await producer.produce(
                [NewRecord(changelog, b'1', b'k%d' % n, (), n % PARTITIONS) for n in numbers]
            )
            assert all(isinstance(outcome, int) for outcome in outcomes)
    finally:
        await journal.close()


@pytest.mark.parametrize('store', ['memory://', 'sqlite://'])
async def test_three_rebalances_cost_less_than_half_of_it_again(
    any_log: SharedLog, store: str, tmp_path: Path
) -> None:
    """Scenario 20: another worker comes, goes and comes again while the first one recovers."""
    await fill(any_log, RECORDS)
    readings: list[Reading] = []

    def declare(app: Topology) -> None:
        orders = app.topic(f'{app.id}-orders', partitions=PARTITIONS)
        counts = app.Table('counts', default=int)
        readings.append(Reading())
        app.restore_listeners.append(readings[-1])

        @app.agent(orders)
        async def count(stream):
            async for key, _ in stream.items():
                counts[key] += 1

    gate = Gate()
    log = SharedLog(any_log.id, lambda: cast(Journal, GatedJournal(any_log.open_journal(), gate)))
    async with crew_of(log, declare, store=store, directory=tmp_path, standbys=0) as crew:
        first = await begin(crew)
        gate.open(0.3)
        await until(lambda: gate.left <= 0, LIMIT_S)
        second = await begin(crew)
        gate.open(0.1)
        await until(lambda: gate.left <= 0, LIMIT_S)
        await crew.leave(second)
        gate.open(0.1)
        await until(lambda: len(tasks(first)) == PARTITIONS and gate.left <= 0, LIMIT_S)
        third = await begin(crew)
        gate.open(2.0)
        await until(lambda: holds(first) + holds(third) == PARTITIONS, LIMIT_S)
        tables = [peer.topology.tables['counts'] for peer in (first, third)]
        states = [state for table in tables for state in table.here.values()]
        assert sum(len(state.store) for state in states) == RECORDS
        print(f'{total(readings) / RECORDS:.2f} times', [one.read for one in readings])
        assert readings[0].again == 0
        assert RECORDS <= total(readings) < 1.5 * RECORDS


async def begin(crew: Crew) -> Peer:
    """Let another worker join, and wait for its share; that is not recovered yet."""
    peer = await crew.start()
    await until(lambda: len(tasks(peer)) == PARTITIONS // len(crew.peers), LIMIT_S)
    return peer


def tasks(peer: Peer) -> Sequence[Any]:
    """Return the partitions that are a worker's, recovered or not."""
    session = peer.worker.session
    return () if session is None else tuple(session.tasks)


def total(readings: Sequence[Reading]) -> int:
    return sum(one.read for one in readings)


def holds(peer: Peer) -> int:
    return len(peer.owns('counts'))
