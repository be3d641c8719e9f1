"""aiokafka's send, pipelined, with the settings of our publisher."""

import asyncio

import msgspec
from aiokafka import AIOKafkaProducer

from bench.meter import Meter, arguments
from bench.service import reading

url, total, topic = arguments()
CHUNK = 2000


async def main() -> None:
    encode = msgspec.json.Encoder().encode
    producer = AIOKafkaProducer(bootstrap_servers=url.removeprefix('kafka://'), acks='all')
    await producer.start()
    await producer.send_and_wait(topic, encode(reading(0)), key=b'boiler.0')
    meter = Meter(total)
    meter.start()
    for first in range(0, total, CHUNK):
        futures = [
            await producer.send(
                topic, encode(reading(number)), key=f'boiler.{number % 50}'.encode()
            )
            for number in range(first, first + CHUNK)
        ]
        await asyncio.gather(*futures)
    meter.finish()
    await producer.stop()


asyncio.run(main())
