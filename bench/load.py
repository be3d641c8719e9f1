"""A small HTTP load: some connections that are kept, each asking again when answered."""

from __future__ import annotations

import asyncio
import sys

from bench.meter import Meter

CONNECTIONS = 32


class Asker(asyncio.Protocol):
    """Asks, and asks again after each answer (which must come in one piece)."""

    def __init__(self, path: str, left: list[int], done: asyncio.Event) -> None:
        self._request = f'GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'.encode()
        self._left = left
        self._done = done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not data.startswith(b'HTTP/1.1 200'):
            raise RuntimeError(f'Not the expected answer: {data[:80]!r}')
        self._left[0] -= 1
        if self._left[0] > 0:
            self._transport.write(self._request)
        else:
            self._done.set()
            self._transport.close()


async def ask(port: int, path: str, total: int) -> None:
    """Ask `total` times over all connections together."""
    done = asyncio.Event()
    left = [total]
    loop = asyncio.get_running_loop()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Asker(path, left, done), '127.0.0.1', port)
    await done.wait()


async def measure(port: int, path: str, total: int) -> None:
    """Let another process ask this one, and print the result."""
    meter = Meter(total)
    for count in (total // 10, total):  # the first round warms up
        meter.start()
        process = await asyncio.create_subprocess_exec(
            sys.executable, '-m', 'bench.load', str(port), path, str(count)
        )
        if await process.wait():
            raise RuntimeError('the load has failed')
    meter.finish()


if __name__ == '__main__':
    asyncio.run(ask(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
