"""aio-pika's publish, gathered, confirmed, persistent."""

import asyncio

import aio_pika
import msgspec

from bench.meter import Meter, arguments
from bench.service import reading

url, total, name = arguments()
CHUNK = 500


async def main() -> None:
    encode = msgspec.json.Encoder().encode
    connection = await aio_pika.connect(url)
    channel = await connection.channel(publisher_confirms=True)
    exchange = await channel.declare_exchange(name, 'topic', durable=True)
    meter = Meter(total)
    meter.start()
    for first in range(0, total, CHUNK):
        await asyncio.gather(
            *(
                exchange.publish(
                    aio_pika.Message(
                        encode(reading(number)),
                        content_type='application/json',
                        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    ),
                    f'boiler.{number % 50}',
                    mandatory=False,
                )
                for number in range(first, first + CHUNK)
            )
        )
    meter.finish()
    await connection.close()


asyncio.run(main())
