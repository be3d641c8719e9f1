"""A service as a process of its own: started from source text, stopped by its id."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

LIMIT_S = 15.0
_BEGIN = """
import asyncio
import time
from aiohttp import web
from service_scaffold import features, service

class Feature(features.ServiceFeature):
    async def startup(self, app):
        print(type(self).__name__, 'startup', flush=True)
    async def drain(self, app):
        print(type(self).__name__, 'drain', flush=True)
    async def before_shutdown(self, app):
        print(type(self).__name__, 'before_shutdown', flush=True)
    async def shutdown(self, app):
        print(type(self).__name__, 'shutdown', flush=True)
"""


class Process:
    """One running service; `output` is what it has printed, `log` what it has logged."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.output = ''
        self.log = ''
        self._grown = asyncio.Event()
        self._readers = [
            asyncio.ensure_future(self._read(process.stdout, 'output')),
            asyncio.ensure_future(self._read(process.stderr, 'log')),
        ]

    async def logged(self, pattern: str) -> re.Match[str]:
        """Wait until the log holds `pattern`."""
        return await self._found('log', pattern)

    async def printed(self, pattern: str) -> re.Match[str]:
        """Wait until the output holds `pattern`."""
        return await self._found('output', pattern)

    async def url(self) -> str:
        """Wait until it listens; return where."""
        return (await self.logged(r'Listening on (http://\S+)'))[1]

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; return its status."""
        async with asyncio.timeout(LIMIT_S):
            status = await self._process.wait()
            await asyncio.gather(*self._readers)
        return status

    async def close(self) -> None:
        """End it, if it has not ended."""
        if self._process.returncode is None:
            self._process.kill()
        await self.ended()

    async def _read(self, stream: asyncio.StreamReader | None, name: str) -> None:
        assert stream is not None
        while data := await stream.readline():
            setattr(self, name, getattr(self, name) + data.decode())
            self._grown.set()
        self._grown.set()

    async def _found(self, name: str, pattern: str) -> re.Match[str]:
        async with asyncio.timeout(LIMIT_S):
            while not (found := re.search(pattern, getattr(self, name))):
                assert not all(reader.done() for reader in self._readers), self.log
                self._grown.clear()
                await self._grown.wait()
        return found


@asynccontextmanager
async def running(source: str, *args: str) -> AsyncIterator[Process]:
    """Run `source` with `app` being what it makes of `service.create_app('plant', …)`.

    `source` may use `Feature`, which prints each hook, and is followed by furnish and run.
    """
    begin = f"{_BEGIN}\napp = service.create_app('plant', raw_args={list(args)!r})\n"
    end = '\nservice.furnish(app)\nservice.run(app)\n'
    process = Process(
        await asyncio.create_subprocess_exec(
            sys.executable,
            '-c',
            begin + textwrap.dedent(source) + end,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    )
    try:
        yield process
    finally:
        await process.close()


async def get(url: str) -> tuple[int, str]:
    """Return status and text of an HTTP resource."""
    limit = aiohttp.ClientTimeout(total=LIMIT_S)
    async with aiohttp.ClientSession(timeout=limit) as client, client.get(url) as answer:
        return answer.status, await answer.text()
