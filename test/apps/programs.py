"""Programs of ready-made apps as processes of their own."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from test.running import Process


@asynccontextmanager
async def program(source: str, *args: str) -> AsyncIterator[Process]:
    """Run `source` with arguments, until the end of the block."""
    process = Process(
        await asyncio.create_subprocess_exec(
            sys.executable,
            '-c',
            textwrap.dedent(source),
            *args,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    )
    try:
        yield process
    finally:
        await process.close()
