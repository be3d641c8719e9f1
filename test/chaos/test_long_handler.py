"""Handlers on Kafka that take longer than any limit on how long a member may be busy.

Kafka's clients know two. The session ends without heartbeats, which go on whatever a handler
does. A member that has not asked for records for `max_poll_interval_ms` leaves the group by
itself; a service is given 20 days for that, and asks for other partitions' records all the time.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service_scaffold.journal.kafka import KafkaJournal
from service_scaffold.journal.kafka_client import Access
from service_scaffold.journal.kafka_member import KafkaMember
from service_scaffold.testing.conformance import Instances
from service_scaffold.transports.base import Binding, IntakeSpec
from service_scaffold.transports.kafka_group import GroupIntake, group_id
from test.brokers.kafka import Kafka
from test.chaos.processes import Worker

HANDLER_S = 15.0
POLL_S = 3.0

pytestmark = pytest.mark.parametrize('broker', [Kafka], indirect=True, ids=['kafka'])


async def test_a_handler_longer_than_the_session_keeps_its_partition(
    broker, teller, unique, tmp_path
):
    """The same member all the time, one processing, while other partitions flow."""
    instance, told = teller
    async with Worker(broker.url, unique, 'w', tmp_path, concurrency=4) as worker:
        await instance.publish(unique, 'tank', {'n': 0, 'work_s': HANDLER_S}, key='long')
        await told.until('begun', {0})
        before = await broker.members(group_id('g', unique))
        number, states = 0, []
        while 0 not in told.numbers('done'):
            number += 1
            await instance.publish(unique, 'tank', {'n': number}, key=f'k{number % 20}')
            await told.until('done', {number}, 20)
            states.append(await broker.members(group_id('g', unique)))
            await asyncio.sleep(0.1)
        status, _ = await worker.terminate(10)

    assert status == 0
    assert len(before) == 1
    assert states == [before] * number
    assert number > 20
    assert Counter(told.numbers('begun')) == Counter(range(number + 1))
    async with Worker(broker.url, unique, 'heir', tmp_path, concurrency=4):
        await instance.publish(unique, 'tank', {'n': -1})
        await told.until('done', {-1})
    assert told.numbers('done', 'heir') == [-1]


class Impatient(KafkaJournal):
    """Gives no member more than `POLL_S` without a question for records."""

    async def member(self, *arguments: Any, max_pause_s: float, **options: Any) -> KafkaMember:
        assert max_pause_s > POLL_S
        return await super().member(*arguments, max_pause_s=POLL_S, **options)


@pytest.fixture
async def intake(broker: Kafka, instances: Instances, unique: str) -> AsyncIterator[GroupIntake]:
    """A member that must ask often, of a group of its own."""
    publisher = await instances.start()
    await publisher.publish(unique, 'first', 0)  # makes the topic
    journal = Impatient(Access(hosts=(('127.0.0.1', broker.port),), client_id=unique))
    await journal.connect()
    made = GroupIntake(journal, IntakeSpec('g', unique), declared)
    await made.open()
    assert not await made.bind([Binding(unique, 'topic', '#')])
    yield made
    await made.close()
    await journal.close()


async def declared(topic: str) -> None:
    """Say that a topic is there."""


async def test_a_handler_longer_than_the_poll_interval_while_others_flow(
    broker, instances, intake, unique
):
    """Unsettled for three intervals: no rebalance, a commit; it is silence that ends membership."""
    instance, group = await instances.start(), group_id('g', unique)
    await instance.publish(unique, 'long', 0, key='long')
    [long] = await asyncio.wait_for(intake.fetch(10), 5)
    before, epoch = await broker.members(group), intake.epoch
    began, flowed = time.monotonic(), 0
    while time.monotonic() - began < 3 * POLL_S:
        flowed += 1
        await instance.publish(unique, 'short', flowed, key=f'k{flowed % 20}')
        found = await asyncio.wait_for(intake.fetch(10), 5)
        assert [delivery.routing for delivery in found] == ['short']
        intake.settle(found)
        assert await broker.members(group) == before
    assert (len(before), intake.epoch) == (1, epoch)
    assert intake.alive(long)
    intake.settle([long])
    await intake.pause()
    assert await broker.committed(group, unique) == flowed + 2

    async with asyncio.timeout(4 * POLL_S):
        while await broker.members(group):  # noqa: ASYNC110 - there is nothing to wait on
            await asyncio.sleep(0.1)
