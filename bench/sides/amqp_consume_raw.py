"""aio-pika's callback with an ack each, on the same kind of queue."""

import asyncio

import aio_pika
import msgspec

from bench.meter import Meter, arguments
from bench.service import Reading

url, total, exchange = arguments()


async def main() -> None:
    meter = Meter(total)
    decode = msgspec.json.Decoder(Reading).decode
    connection = await aio_pika.connect(url)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=100)
    queue = await channel.get_queue(f'bench@{exchange}')

    async def handle(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        decode(message.body)
        await message.ack()
        meter.hit()

    await queue.consume(handle)
    await meter.done.wait()
    await connection.close()


asyncio.run(main())
