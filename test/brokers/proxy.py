"""A TCP proxy that fails on demand, in a thread of its own so that no busy loop stalls it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import TypeVar

_CHUNK_BYTES = 65_536
_CALL_TIMEOUT_S = 10.0
_RESET_ON_CLOSE = struct.pack('ii', 1, 0)

T = TypeVar('T')


class Proxy:
    """Forwards `127.0.0.1:port` to the target; open from the start, until `close`.

    The methods may be called from any thread; each returns when its effect is there.
    """

    def __init__(self, target_host: str, target_port: int, *, port: int = 0) -> None:
        self.host = '127.0.0.1'
        self.port = port
        self.target = (target_host, target_port)
        self.accepted = 0
        """Connections taken since the start."""
        self._delay_s = 0.0
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name='proxy', daemon=True)
        self._thread.start()
        self.up()

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._links)

    def up(self) -> None:
        """Listen (again); connections that are open stay as they are."""
        self._call(self._up())

    def down(self) -> None:
        """Refuse new connections and cut those that are open."""
        self._call(self._down())

    def half_open(self) -> None:
        """Take and keep connections but forward nothing, either way, not even their end.

        What is sent meanwhile waits, and arrives after `restore`, as behind a cut cable.
        """
        self._call(self._half_open())

    def slow(self, seconds: float) -> None:
        """Let every byte arrive that much later; 0 ends it."""
        self._delay_s = seconds

    def drop_connections(self) -> None:
        """Reset the connections that are open; new ones are taken."""
        self._call(self._drop())

    def restore(self) -> None:
        """End every fault: listen, forward, at once."""
        self._delay_s = 0.0
        self._call(self._restore())

    def close(self) -> None:
        """Cut everything and end the thread."""
        if not self._thread.is_alive():
            return
        self.down()
        self._call(self._cancel_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_TIMEOUT_S)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        self._flowing.set()
        self._loop.run_forever()
        self._loop.close()

    def _call(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_TIMEOUT_S)

    async def _up(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, self.host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _down(self) -> None:
        if self._server is not None:
            # Not wait_closed(): since Python 3.12 it also waits for the connections.
            self._server.close()
            self._server = None
        await self._drop()

    async def _half_open(self) -> None:
        self._flowing.clear()

    async def _restore(self) -> None:
        self._flowing.set()
        await self._up()

    async def _drop(self) -> None:
        links = list(self._links)
        for link in links:
            link.reset()
        await asyncio.gather(*(link.task for link in links), return_exceptions=True)

    async def _cancel_tasks(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        link = _Link(task, writer)
        self._links.add(link)
        self.accepted += 1
        try:
            await self._flowing.wait()
            target_reader, target_writer = await asyncio.open_connection(*self.target)
            link.writers.append(target_writer)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._forward(reader, target_writer))
                pumps.create_task(self._forward(target_reader, writer))
        except* OSError:
            # The target refuses or has gone: the client sees its connection end.
            pass
        except* asyncio.CancelledError:
            # Asked for by reset() or close(); as the connection's own task, nobody awaits more.
            pass
        finally:
            link.abort()
            self._links.discard(link)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy one direction; a queue between the two ends, so that a delay costs no rate."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)
        async with asyncio.TaskGroup() as ends:
            ends.create_task(self._read(reader, waiting))
            ends.create_task(self._write(waiting, writer))

    async def _read(
        self, reader: asyncio.StreamReader, waiting: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        data = b'more'
        while data:
            data = await reader.read(_CHUNK_BYTES)
            await waiting.put((self._loop.time(), data))

    async def _write(
        self, waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        while True:
            arrived, data = await waiting.get()
            left_s = arrived + self._delay_s - self._loop.time()
            if left_s > 0:
                await asyncio.sleep(left_s)
            await self._flowing.wait()
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()


class _Link:
    """One connection through the proxy: its task and the sockets on both sides."""

    def __init__(self, task: asyncio.Task[object], writer: asyncio.StreamWriter) -> None:
        self.task = task
        self.writers = [writer]

    def reset(self) -> None:
        """End both sides with RST instead of FIN."""
        for writer in self.writers:
            raw = writer.get_extra_info('socket')
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.task.cancel()

    def abort(self) -> None:
        """Close both sides at once."""
        for writer in self.writers:
            writer.transport.abort()
