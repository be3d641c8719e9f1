"""An example as a process of its own, started as its first lines say."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / 'examples'
LIMIT_S = 20


class Example:
    """A running example.

    Attributes:
        base: URL of the service, with its prefix.
        process: The process.
    """

    def __init__(self, base: str, process: subprocess.Popen[str]) -> None:
        self.base = base
        self.process = process

    def ask(self, path: str, body: object = None, **headers: str) -> object:
        """Ask by GET, or by POST with a body (bytes, else JSON), and return the answer."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, headers)
        with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
            return json.load(response)

    async def becomes(self, path: str, wanted: Callable[[object], bool]) -> object:
        """Ask until the answer is as wanted: what is consumed shows a moment later."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                try:
                    if wanted(answer := await asyncio.to_thread(self.ask, path)):
                        return answer
                except urllib.error.HTTPError as error:
                    if error.code != 503:  # a table that is just being recovered
                        raise
                await asyncio.sleep(0.02)

    def wait_ready(self) -> None:
        """Ask until the service is ready."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                self.ask('/_service/ready')
            except urllib.error.HTTPError as error:
                if error.code != 503 or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return


@contextmanager
def running(
    name: str, *options: str, program: bool = False, prefix: str | None = None
) -> Iterator[Example]:
    """Run an example until the block ends; then it must exit with status 0.

    Args:
        program: It is a `StreamApp`: it has a command `worker`, and its paths no prefix.
        prefix: Of its paths, when that is not its name.
    """
    if prefix is None:
        prefix = '' if program else f'/{name}'
    command = [sys.executable, str(EXAMPLES / f'{name}.py'), *(['worker'] if program else [])]
    command += ['--host', '127.0.0.1', '--port', '0', *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r'http://\S+:(\d+)', line):
                break
        else:
            pytest.fail(f'{name} did not start')
        example = Example(f'http://127.0.0.1:{found[1]}{prefix}', process)
        example.wait_ready()
        yield example
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, errors
    finally:
        process.kill()
        process.communicate()
