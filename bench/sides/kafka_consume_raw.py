"""aiokafka's getmany, the same decoder, an awaited handler, commits twice a second."""

import asyncio
import time

import msgspec
from aiokafka import AIOKafkaConsumer

from bench.meter import Meter, arguments
from bench.service import Reading

url, total, topic = arguments()


async def main() -> None:
    meter = Meter(total)
    decode = msgspec.json.Decoder(Reading).decode

    async def handle(message: Reading) -> None:
        meter.hit()

    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=url.removeprefix('kafka://'),
        group_id=f'{topic}-raw',
        enable_auto_commit=False,
        auto_offset_reset='earliest',
    )
    await consumer.start()
    committed_at = time.perf_counter()
    while not meter.done.is_set():
        batches = await consumer.getmany(timeout_ms=500, max_records=1000)
        for records in batches.values():
            for record in records:
                await handle(decode(record.value))
        if time.perf_counter() - committed_at > 0.5:
            await consumer.commit()
            committed_at = time.perf_counter()
    await consumer.stop()


asyncio.run(main())
