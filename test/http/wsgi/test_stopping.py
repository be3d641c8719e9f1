"""A service with a mounted WSGI application stops in order, and in time."""

import asyncio
import time

import pytest

from test.running import get, running

MOUNT = """
from service_scaffold.http import wsgi

def app_wsgi(environ, start_response):
    path = environ['PATH_INFO']
    print('in', path, flush=True)
    if path == '/slow':
        time.sleep(0.5)
    if path == '/hang':
        time.sleep(60)
    start_response('200 OK', [('Content-Type', 'text/plain')])
    if path == '/endless':
        return endless()
    if path == '/after':
        return After()
    return [b'done']

def endless():
    try:
        while True:
            yield b'x' * 1000
            time.sleep(0.01)
    finally:
        print('closed', flush=True)

class After(list):
    def __init__(self):
        super().__init__([b'done'])
    def close(self):
        time.sleep(0.5)
        print('closed', flush=True)

wsgi.mount(app, '', app_wsgi)
"""


async def test_a_request_that_runs_is_finished():
    async with running(MOUNT, '-p', '0') as process:
        url = await process.url()
        await process.logged('Started in')
        asked = asyncio.ensure_future(get(f'{url}/plant/slow'))
        await process.printed('in /slow')
        process.signal()

        assert await asked == (200, 'done')
        assert await process.ended() == 0


async def test_what_a_view_does_after_its_response_is_finished():
    async with running(MOUNT, '-p', '0') as process:
        url = await process.url()
        await process.logged('Started in')
        assert await get(f'{url}/plant/after') == (200, 'done')
        process.signal()

        assert await process.ended() == 0
        assert 'closed' in process.output


@pytest.mark.parametrize('path', ['hang', 'endless'])
async def test_a_view_that_does_not_end_is_cut_off_in_time(path):
    """The loop is free meanwhile, and the thread does not keep the process from exiting."""
    async with running(MOUNT, '-p', '0', '--shutdown-timeout-s', '1') as process:
        url = await process.url()
        await process.logged('Started in')
        asked = asyncio.ensure_future(get(f'{url}/plant/{path}'))
        await process.printed(f'in /{path}')
        assert (await get(f'{url}/_service/status'))[0] == 200
        begun = time.monotonic()
        process.signal()

        assert await process.ended() == 1
        assert time.monotonic() - begun < 6
        assert 'did not finish within' in process.log
        await asyncio.gather(asked, return_exceptions=True)
    if path == 'endless':
        assert 'closed' in process.output
