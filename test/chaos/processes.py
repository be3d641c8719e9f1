"""Real processes of the worker, and the brokers that may be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from service_scaffold.testing.conformance.inbox import eventually
from test.brokers.process import free_port, kill
from test.memory import resident_kib

ROOT = Path(__file__).resolve().parents[2]
READY_S = 30.0


def start(module: str, options: Mapping[str, object], log: Path) -> subprocess.Popen[bytes]:
    """Start a module as a process of its own; what it says goes to `log`."""
    arguments = [f'--{key.replace("_", "-")}={value}' for key, value in options.items()]
    with log.open('wb') as output:
        return subprocess.Popen(
            [sys.executable, '-m', module, *arguments],
            cwd=ROOT,
            env={'PATH': os.environ['PATH'], 'PYTHONPATH': str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


class Worker:
    """One process, of `test.chaos.worker` or the like; killed at the end if it still runs.

    Args:
        url: The event bus.
        exchange: What it works for.
        instance: Its `--instance`.
        directory: Where its log goes.
        module: What runs.
        options: Further options, with underscores.
    """

    def __init__(
        self,
        url: str,
        exchange: str,
        instance: str,
        directory: Path,
        module: str = 'test.chaos.worker',
        **options: object,
    ) -> None:
        self.instance = instance
        self.base = f'http://127.0.0.1:{(port := free_port())}'
        self.log = directory / f'{instance}-{port}.log'
        given: dict[str, object] = {
            'eventbus_url': url,
            'exchange': exchange,
            'instance': instance,
            'name': f's{exchange}',
            'host': '127.0.0.1',
            'port': port,
            'publish_timeout_s': 3,
            **options,
        }
        self.process = start(module, given, self.log)

    async def __aenter__(self) -> Self:
        try:
            await self.ready()
        except BaseException:
            kill(self.process)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        kill(self.process)
        if error is not None:
            print(f'{self.instance}:\n{self.log.read_text()[-6000:]}')

    async def status_of(self, path: str) -> int:
        """Return the HTTP status of a GET; 0 while nobody listens."""
        limit = aiohttp.ClientTimeout(total=2)
        async with aiohttp.ClientSession(timeout=limit) as session:
            try:
                async with session.get(self.base + path) as response:
                    return response.status
            except (aiohttp.ClientError, TimeoutError):
                return 0

    async def ready(self, timeout_s: float = READY_S) -> None:
        """Wait until it says that it is ready."""
        async with asyncio.timeout(timeout_s):
            while await self.status_of('/_service/ready') != 200:
                assert self.process.poll() is None, self.log.read_text()[-6000:]
                await asyncio.sleep(0.05)

    async def ended(self, timeout_s: float) -> int:
        """Wait for the end of the process; return its exit status."""
        await eventually(lambda: self.process.poll() is not None, timeout_s)
        return int(self.process.returncode)

    async def terminate(self, timeout_s: float) -> tuple[int, float]:
        """Send SIGTERM; return the exit status and how many seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        status = await self.ended(timeout_s)
        return status, time.monotonic() - began

    def kill(self) -> None:
        """End it with SIGKILL."""
        kill(self.process)

    @property
    def rss_mib(self) -> float:
        """Its resident memory."""
        return resident_kib(self.process.pid) / 1024
