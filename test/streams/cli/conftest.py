"""Running commands: in this process, and as programs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from click.testing import CliRunner, Result

from service_scaffold.streams import cli
from test.running import Process


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run a command of an application in this process: `run(app, 'agents', '--json')`."""

    def run(app: object, *args: str) -> Result:
        result = CliRunner().invoke(cli.commands(app), args)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Process]]:
    """Start `python -m …` as a program; what has not ended at the end is killed."""
    async with AsyncExitStack() as stack:

        async def start(*args: str) -> Process:
            process = Process(
                await asyncio.create_subprocess_exec(
                    sys.executable,
                    '-m',
                    *args,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                )
            )
            stack.push_async_callback(process.close)
            return process

        yield start
