"""`python -m service_scaffold` is a service without anything of its own."""

import asyncio
import sys

from test.running import Process, get


async def test_the_module_runs_a_service_on_the_built_in_bus():
    """Under the name `service`, well and ready at once, and it stops with 0."""
    process = Process(
        await asyncio.create_subprocess_exec(
            sys.executable,
            *('-m', 'service_scaffold', '--host', '127.0.0.1', '--port', '0'),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    )
    try:
        url = await process.url()
        await process.logged('Started in')
        assert await get(f'{url}/service/_service/status') == (200, '{"status": "ok"}')
        assert (await get(f'{url}/_service/ready'))[0] == 200
        process.signal()
        assert await process.ended() == 0
    finally:
        await process.close()


async def test_the_usage_says_how_it_was_called():
    """Not `__main__.py`, which nobody can type."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, '-m', 'service_scaffold', '--help', stdout=asyncio.subprocess.PIPE
    )
    said, _ = await asyncio.wait_for(process.communicate(), 20)
    assert said.startswith(b'usage: python -m service_scaffold [-h]')
