"""Topics of answers are gone for good, also where the broker makes whatever is asked for."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold.journal.kafka import KafkaJournal
from service_scaffold.journal.kafka_client import METADATA_MAX_AGE_MS, Access
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.testing.conformance.inbox import eventually
from test.brokers.kafka import Kafka
from test.brokers.required import require_broker
from test.streams.test_rpc_kafka import Instance, declare


@pytest.fixture
def generous():
    """A Kafka that creates topics by itself, as it does unless it is told otherwise."""
    require_broker(Kafka)
    broker = Kafka(settings={'auto.create.topics.enable': 'true'})
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


async def test_a_worker_that_has_answered_does_not_bring_the_topic_back(generous, unique):
    settings = StreamSettings(unique, topic_partitions=4)
    one, two = Instance(generous.url, settings), Instance(generous.url, settings)
    first, second = declare(one.topology), declare(two.topology)
    host, _, port = generous.url.removeprefix('kafka://').partition(':')
    journal = KafkaJournal(Access([(host, int(port))]))
    await journal.connect()
    async with two.running():
        async with one.running():
            await eventually(lambda: (one.partitions, two.partitions) == (2, 2), 30)
            await first.kvjoin([(str(n), n) for n in range(100)])
            assert second.stats.processed > 0
            topic = one.topology.calls.reply_to
        async with asyncio.timeout(10):
            while (await journal.partitions([topic]))[topic]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.5 * METADATA_MAX_AGE_MS / 1000)  # clients ask again meanwhile
        assert await journal.partitions([topic]) == {topic: None}
    await journal.close()
