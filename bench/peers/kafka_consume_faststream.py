"""FastStream's Kafka subscriber, at least once."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker

from bench.meter import Meter, arguments

url, total, topic = arguments()


async def main() -> None:
    meter = Meter(total)
    broker = KafkaBroker(url.removeprefix('kafka://'), logger=None)

    @broker.subscriber(
        topic,
        group_id=f'{topic}-faststream',
        auto_offset_reset='earliest',
        ack_policy=AckPolicy.ACK_FIRST,  # its automatic commits: the cheapest it has
    )
    async def handle(message: dict) -> None:
        meter.hit()

    app = FastStream(broker)
    await app.broker.start()
    await meter.done.wait()
    await app.broker.stop()


asyncio.run(main())
