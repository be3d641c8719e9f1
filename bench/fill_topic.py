"""Fills a topic with plain records: a thousand keys, JSON values of about 100 bytes, no headers."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.meter import payload

PARTITIONS = 4
KEYS = 1000

Pair = tuple[bytes, bytes]


def values(total: int) -> Iterable[Pair]:
    """Return key and value of each record."""
    for number in range(total):
        yield b'boiler-%d' % (number % KEYS), json.dumps(payload(number)).encode()


async def create(url: str, topics: Iterable[str], config: dict[str, str] | None = None) -> None:
    """Make topics that are not there."""
    admin = AIOKafkaAdminClient(bootstrap_servers=url.removeprefix('kafka://'))
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(topic, PARTITIONS, 1, topic_configs=config) for topic in topics]
        )
    finally:
        await admin.close()


async def fill(url: str, topic: str, pairs: Iterable[Pair]) -> None:
    """Append the records."""
    producer = AIOKafkaProducer(
        bootstrap_servers=url.removeprefix('kafka://'), linger_ms=5, max_batch_size=64 * 1024
    )
    await producer.start()
    try:
        sent = None
        for key, value in pairs:
            sent = await producer.send(topic, value, key)
        await producer.flush()
        if sent is not None:
            await sent
    finally:
        await producer.stop()


async def main(url: str, total: int, topic: str) -> None:
    """Make the topic, and fill it."""
    await create(url, [topic])
    await fill(url, topic, values(total))


if __name__ == '__main__':
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
