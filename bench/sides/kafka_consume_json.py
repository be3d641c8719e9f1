"""aiokafka's getmany and the standard library's json: what the memory bus is compared with."""

import asyncio
import json

from aiokafka import AIOKafkaConsumer

from bench.meter import Meter, arguments

url, total, topic = arguments()


async def main() -> None:
    meter = Meter(total)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=url.removeprefix('kafka://'),
        group_id=f'{topic}-json',
        enable_auto_commit=False,
        auto_offset_reset='earliest',
    )
    await consumer.start()
    while not meter.done.is_set():
        batches = await consumer.getmany(timeout_ms=500, max_records=1000)
        for records in batches.values():
            for record in records:
                json.loads(record.value)
                meter.hit()
    await consumer.stop()


asyncio.run(main())
