"""A TCP proxy for MQTT that keeps some of the broker's confirms to itself."""

from __future__ import annotations

import asyncio

from service_scaffold.transports.mqtt_packets import read_length
from test.transports.mqtt_peer import PUBACK


class Swallower:
    """Forwards to a broker all but the confirms that it is told to swallow.

    Args:
        host: Where the broker is.
        port: Its port.

    Attributes:
        appetite: How many of the next confirms (PUBACK) are swallowed.
        swallowed: How many were.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[object]] = set()
        self.appetite = 0
        self.swallowed = 0

    @property
    def url(self) -> str:
        assert self._server is not None
        return f'mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}'

    async def __aenter__(self) -> Swallower:
        self._server = await asyncio.start_server(self._serve, '127.0.0.1', 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        if self._serving:
            await asyncio.wait(self._serving, timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        from_broker, to_broker = await asyncio.open_connection(*self._target)
        onward = asyncio.ensure_future(self._forward(reader, to_broker))
        back = asyncio.ensure_future(self._forward(from_broker, writer, picky=True))
        try:
            await asyncio.wait({onward, back}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in (onward, back):
                pump.cancel()
            await asyncio.gather(onward, back, return_exceptions=True)
            writer.transport.abort()
            to_broker.transport.abort()
            self._serving.discard(task)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, picky: bool = False
    ) -> None:
        data = b''
        while chunk := await reader.read(65_536):
            data += chunk
            if not picky:
                writer.write(data)
                data = b''
            while (sized := read_length(data, 1)) and sum(sized) <= len(data):
                end = sum(sized)
                if not self._swallows(data[0]):
                    writer.write(data[:end])
                data = data[end:]
            await writer.drain()

    def _swallows(self, first: int) -> bool:
        if first & 0xF0 != PUBACK or not self.appetite:
            return False
        self.appetite -= 1
        self.swallowed += 1
        return True
