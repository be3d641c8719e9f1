"""FastStream's RabbitMQ subscriber on the same kind of queue."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitExchange, RabbitQueue

from bench.meter import Meter, arguments

url, total, exchange = arguments()


async def main() -> None:
    meter = Meter(total)
    broker = RabbitBroker(url, logger=None, default_channel=Channel(prefetch_count=100))

    @broker.subscriber(
        RabbitQueue(
            f'bench@{exchange}',
            queue_type=QueueType.QUORUM,
            durable=True,
            declare=False,
        ),
        RabbitExchange(exchange, declare=False),
    )
    async def handle(message: dict) -> None:
        meter.hit()

    await broker.start()
    await meter.done.wait()
    await broker.stop()


asyncio.run(main())
