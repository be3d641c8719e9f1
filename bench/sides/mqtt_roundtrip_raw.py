"""aiomqtt: QoS 1 out, gathered, and QoS 1 in by its iterator, in one process."""

import asyncio
import socket

import aiomqtt
import msgspec

from bench.meter import Meter, arguments
from bench.service import Reading, reading

url, total, exchange = arguments()
CHUNK = 100
NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def client(host: str, port: str) -> aiomqtt.Client:
    return aiomqtt.Client(
        host,
        int(port),
        protocol=aiomqtt.ProtocolVersion.V5,
        socket_options=[NO_DELAY],
        max_inflight_messages=CHUNK,
        max_concurrent_outgoing_calls=CHUNK,
    )


async def main() -> None:
    meter = Meter(total)
    encode = msgspec.json.Encoder().encode
    decode = msgspec.json.Decoder(Reading).decode
    host, _, port = url.removeprefix('mqtt://').partition(':')
    async with client(host, port) as incoming, client(host, port) as outgoing:
        await incoming.subscribe(f'{exchange}/#', qos=1)

        async def handle(message: Reading) -> None:
            meter.hit()

        async def consume() -> None:
            async for message in incoming.messages:
                await handle(decode(message.payload))

        task = asyncio.ensure_future(consume())
        meter.start()
        for first in range(0, total, CHUNK):
            await asyncio.gather(
                *(
                    outgoing.publish(f'{exchange}/boiler', encode(reading(number)), qos=1)
                    for number in range(first, first + CHUNK)
                )
            )
        async with asyncio.timeout(60):
            await meter.done.wait()
        task.cancel()


asyncio.run(main())
