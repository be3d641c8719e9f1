"""What goes wrong in a WSGI application is a problem for the client and a traceback for us."""

import asyncio
import threading

import pytest

from test.http.serving import UncancelledServer
from test.http.wsgi.mounted import LIMIT_S, connected, mounted


def raising(error):
    def app(environ, start_response):
        start_response('200 OK', [])
        raise error

    return app


@pytest.mark.parametrize(
    'error',
    [LookupError('secret'), TimeoutError('secret'), OSError('secret'), SystemExit('secret')],
)
async def test_an_exception_is_a_500_with_its_traceback_in_the_log(error, caplog):
    """Whichever it is: to us all of them are mistakes of the application."""
    async with mounted(raising(error)) as client:
        answer = await client.get('/site/x')
        problem = await answer.json()

    assert problem == {'type': 'about:blank', 'title': 'Internal Server Error', 'status': 500}
    assert answer.headers['Access-Control-Allow-Origin'] == '*'
    (record,) = [r for r in caplog.records if r.levelname == 'ERROR']
    assert record.getMessage() == 'GET /site/x failed'
    assert type(error).__name__ in caplog.text
    assert 'raise error' in caplog.text


async def test_internals_are_told_with_debug_only():
    async with mounted(raising(LookupError('deep inside')), '--debug') as client:
        problem = await (await client.get('/site/')).json()

    assert problem['exception'] == 'LookupError'
    assert problem['detail'] == 'deep inside'
    assert 'raise error' in ''.join(problem['traceback'])


def no_start(environ, start_response):
    return [b'x']


def no_start_and_nothing(environ, start_response):
    return []


def twice(environ, start_response):
    start_response('200 OK', [])
    start_response('200 OK', [])
    return []


def text(environ, start_response):
    start_response('200 OK', [])
    return ['text']


def bad_status(environ, start_response):
    start_response('OK', [])
    return []


def bad_length(environ, start_response):
    start_response('200 OK', [('Content-Length', 'x')])
    return []


def injects(environ, start_response):
    start_response('200 OK', [('X-A', 'a\r\nX-B: b')])
    return [b'x', b'y']


def none(environ, start_response):
    start_response('200 OK', [])


@pytest.mark.parametrize(
    'app',
    [no_start, no_start_and_nothing, twice, text, bad_status, bad_length, injects, none],
)
async def test_what_breaks_the_protocol_is_a_500(app):
    async with mounted(app) as client:
        answer = await client.get('/site/')

        assert (answer.status, 'X-B' in answer.headers) == (500, False)


async def test_a_thread_serves_on_after_an_exception():
    async with mounted(raising(LookupError()), '--wsgi-threads', '1') as client:
        for _ in range(3):
            assert (await client.get('/site/')).status == 500


class Busy:
    """An application that holds its thread until it is told to go on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.go_on = threading.Event()
        self.entered: asyncio.Queue = asyncio.Queue()
        self.running = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, environ, start_response):
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self._loop.call_soon_threadsafe(self.entered.put_nowait, environ['PATH_INFO'])
        self.go_on.wait(LIMIT_S)
        with self._lock:
            self.running -= 1
        start_response('200 OK', [])
        return [b'ok']

    async def has_entered(self):
        async with asyncio.timeout(LIMIT_S):
            return await self.entered.get()


async def test_so_many_run_at_once_and_the_others_wait():
    busy = Busy()
    async with mounted(busy, '--wsgi-threads', '3') as client, asyncio.TaskGroup() as group:
        asked = [group.create_task(client.get(f'/site/{n}')) for n in range(10)]
        for _ in range(3):
            await busy.has_entered()
        assert (await client.get('/_service/status')).status == 200  # the loop is free meanwhile
        busy.go_on.set()

        assert {(await answer).status for answer in asked} == {200}
    assert busy.most == 3


async def test_who_waits_too_long_for_a_thread_gets_a_503():
    busy = Busy()
    async with mounted(busy, '--wsgi-threads', '1', '--wsgi-wait-s', '0.05') as client:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(client.get('/site/first'))
            await busy.has_entered()
            late = await client.get('/site/late')
            busy.go_on.set()
            assert (await first).status == 200

        assert (late.status, late.headers['Retry-After']) == (503, '1')
        assert (await client.get('/site/again')).status == 200
    assert busy.entered.qsize() == 1  # the late one never came in


async def test_who_leaves_while_waiting_never_runs():
    busy = Busy()
    async with (
        mounted(busy, '--wsgi-threads', '1', server=UncancelledServer) as client,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(client.get('/site/first'))
        await busy.has_entered()
        async with connected(client) as (_, writer):
            writer.write(b'GET /site/left HTTP/1.1\r\nHost: a\r\n\r\n')
            await writer.drain()
        await client.get('/_service/status')  # by now it waits, and has left
        second = group.create_task(client.get('/site/second'))
        busy.go_on.set()
        await second

        assert await busy.has_entered() == '/second'


async def test_a_thread_that_cannot_be_started_takes_no_place():
    busy = Busy()
    busy.go_on.set()
    async with mounted(busy, '--wsgi-threads', '1', '--wsgi-wait-s', '0.1') as client:
        before = threading.stack_size(2**46)  # more than the machine has addresses for
        try:
            failed = await client.get('/site/first')
        finally:
            threading.stack_size(before)

        assert failed.status == 500
        assert (await client.get('/site/second')).status == 200
