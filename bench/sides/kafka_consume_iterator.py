"""aiokafka's `async for`; the records are counted, nothing is decoded, nothing committed."""

import asyncio

from aiokafka import AIOKafkaConsumer

from bench.meter import Meter, arguments

url, total, topic = arguments()


async def main() -> None:
    meter = Meter(total)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=url.removeprefix('kafka://'),
        group_id=f'{topic}-iterator',
        enable_auto_commit=False,
        auto_offset_reset='earliest',
    )
    await consumer.start()
    async for _ in consumer:
        meter.hit()
        if meter.done.is_set():
            break
    await consumer.stop()


asyncio.run(main())
