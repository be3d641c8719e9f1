"""Responses are streamed out as the application gives them, and it is closed in the end."""

import asyncio
import itertools
import queue
import sys
import threading
from wsgiref.validate import validator

import pytest

from test.http.serving import UncancelledServer
from test.http.wsgi.mounted import LIMIT_S, Closing, at_rest, connected, mounted, sent

PLAIN = [('Content-Type', 'text/plain')]
GET = b'GET /site/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'


def answers(result, headers=(), status='200 OK'):
    """Return an application that gives `result`."""

    def app(environ, start_response):
        start_response(status, [*PLAIN, *headers])
        return result

    return app


async def test_blocks_go_out_when_they_are_given():
    """The second block is only made when the first has arrived."""
    blocks: queue.SimpleQueue = queue.SimpleQueue()

    async with mounted(answers(iter(lambda: blocks.get(timeout=LIMIT_S), None))) as client:
        blocks.put(b'one')
        answer = await client.get('/site/')
        assert await answer.content.readany() == b'one'
        blocks.put(b'two')
        assert await answer.content.readany() == b'two'
        blocks.put(None)

        assert await answer.read() == b''
        assert answer.headers['Transfer-Encoding'] == 'chunked'


async def test_the_head_waits_for_the_first_block():
    """So that an application may still change its mind; and empty blocks are none."""

    def app(environ, start_response):
        start_response('200 OK', PLAIN)
        yield b''
        try:
            raise LookupError
        except LookupError:
            start_response('404 Not Found', PLAIN, sys.exc_info())
        yield b'nothing here'

    async with mounted(app) as client:
        answer = await client.get('/site/')

        assert (answer.status, await answer.text()) == (404, 'nothing here')


async def test_after_the_head_exc_info_raises_it_and_cuts_the_response(caplog):
    def app(environ, start_response):
        start_response('200 OK', PLAIN)
        yield b'half'
        try:
            raise LookupError('too late')
        except LookupError:
            start_response('500 Oh', PLAIN, sys.exc_info())

    async with mounted(app) as client:
        answer = await sent(client, GET)

    assert answer.endswith(b'4\r\nhalf\r\n')  # without the last chunk, it is known to be cut
    assert 'too late' in caplog.text


async def test_write_sends_at_once():
    loop = asyncio.get_running_loop()
    written, go_on = asyncio.Event(), threading.Event()

    def app(environ, start_response):
        write = start_response('200 OK', PLAIN)
        write(b'written ')
        loop.call_soon_threadsafe(written.set)
        go_on.wait(LIMIT_S)
        return [b'given']

    async with mounted(app) as client:
        answer = await client.get('/site/')
        await written.wait()
        assert await answer.content.readany() == b'written '
        go_on.set()

        assert await answer.read() == b'given'


@pytest.mark.parametrize(
    ('result', 'headers', 'length'),
    [
        ([b'whole'], [], '5'),
        ([b'whole'], [('Content-Length', '5')], '5'),
        (iter([b'who', b'le']), [('Content-Length', '5')], '5'),
        (iter([b'whole']), [], None),
        ((b'who', b'le'), [], None),
        ([], [], '0'),
        ([b''], [], '0'),
    ],
)
async def test_lengths_that_are_known_are_told(result, headers, length):
    async with mounted(answers(result, headers)) as client:
        answer = await client.get('/site/')
        body = await answer.read()

    assert answer.headers.get('Content-Length') == length
    assert body == (b'' if length == '0' else b'whole')


async def test_http_1_0_gets_no_chunks():
    async with mounted(answers((b'who', b'le'))) as client:
        answer = await sent(client, b'GET /site/ HTTP/1.0\r\n\r\n')

    assert answer.endswith(b'\r\n\r\nwhole')
    assert b'chunked' not in answer


@pytest.mark.parametrize('result', [[b'whole'], (b'who', b'le'), [], None])
async def test_head_has_the_headers_and_no_body(result):
    length = [] if result is None else [('Content-Length', '5')]
    request = GET.replace(b'GET', b'HEAD')
    async with mounted(answers([b'x', b'y'] if result is None else result, length)) as client:
        head, _, body = (await sent(client, request)).partition(b'\r\n\r\n')

    assert body == b''
    assert (b'Content-Length: 5' in head) == (result is not None)


@pytest.mark.parametrize('status', ['204 No Content', '304 Not Modified'])
async def test_statuses_without_a_body_have_none(status):
    async with mounted(answers([b'x'], status=status)) as client:
        answer = await sent(client, GET)

    assert answer.endswith(b'\r\n\r\n')
    assert b'chunked' not in answer


async def test_too_little_is_an_error_and_too_much_is_cut(caplog):
    def app(environ, start_response):
        start_response('200 OK', [*PLAIN, ('Content-Length', '4')])
        return iter([b'12', b'3'] if environ['QUERY_STRING'] else [b'12', b'345'])

    async with mounted(app) as client:
        assert await (await client.get('/site/')).text() == '1234'
        assert 'GET /site/: 1 bytes more than its Content-Length' in caplog.text
        short = await sent(client, GET.replace(b'/site/', b'/site/?short'))

    assert short.endswith(b'\r\n\r\n123')
    assert '1 bytes less than its Content-Length' in caplog.text


@pytest.mark.parametrize('length', ['1', '4'])
async def test_what_gives_too_much_is_not_asked_for_more(length, caplog):
    result = Closing(itertools.repeat(b'12'))
    async with mounted(answers(result, [('Content-Length', length)])) as client:
        assert await (await client.get('/site/')).text() == '1212'[: int(length)]
        await result.wait_closed()

    assert len([record for record in caplog.records if record.levelname == 'ERROR']) == 1


async def test_headers_go_out_as_they_are():
    headers = [
        ('Set-Cookie', 'a=1'),
        ('Set-Cookie', 'b=2'),
        ('X-Utf', 'ä'.encode().decode('latin-1')),
        ('Connection', 'keep-alive'),
        ('Transfer-Encoding', 'identity'),
    ]
    async with mounted(answers([b'x'], headers, status='299 Quite Fine')) as client:
        answer = await sent(client, GET)

    assert answer.startswith(b'HTTP/1.1 299 Quite Fine\r\n')
    assert b'Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n' in answer
    assert 'X-Utf: ä\r\n'.encode() in answer
    assert b'keep-alive' not in answer
    assert b'identity' not in answer


async def test_cors_headers_stand_on_streams_and_own_ones_win():
    headers = [('Access-Control-Allow-Origin', 'https://own.example')]
    async with mounted(answers((b'a', b'b'))) as client:
        assert (await client.get('/site/')).headers['Access-Control-Allow-Origin'] == '*'
    async with mounted(answers((b'a', b'b'), headers)) as client:
        answer = await client.get('/site/')
        assert answer.headers.getall('Access-Control-Allow-Origin') == ['https://own.example']


@pytest.mark.parametrize('length', [[], [('Content-Length', '6')], [('Content-Length', '3')]])
async def test_it_is_closed_once(length):
    result = Closing([b'one', b'two'])
    async with mounted(answers(result, length)) as client:
        await (await client.get('/site/')).read()
        await result.wait_closed()

    assert result.closes == 1


async def test_what_close_does_delays_no_complete_response():
    go_on = threading.Event()
    result = Closing([b'whole'])
    close, result.close = result.close, lambda: go_on.wait(LIMIT_S) and close()

    async with mounted(answers(result, [('Content-Length', '5')])) as client:
        assert await (await client.get('/site/')).text() == 'whole'
        assert not result.closed.is_set()
        go_on.set()
        await result.wait_closed()


async def test_a_failing_close_is_logged(caplog):
    def fail():
        raise LookupError('in close')

    result = Closing([b'whole'])
    result.close = fail
    async with mounted(answers(result)) as client:
        assert (await client.get('/site/')).status == 200

    assert 'close() of GET /site/ failed' in caplog.text
    assert 'in close' in caplog.text


async def test_queries_are_not_logged(caplog):
    """They may hold credentials."""

    def fail():
        raise LookupError('in close')

    result = Closing([b'12'])
    result.close = fail
    async with mounted(answers(result, [('Content-Length', '1')])) as client:
        await client.get('/site/?token=secret')

    ours = [r.getMessage() for r in caplog.records if r.name.startswith('service_scaffold')]
    assert 'close() of GET /site/ failed' in ours
    assert not [message for message in ours if 'secret' in message]


async def test_a_client_that_leaves_closes_the_generator(caplog):
    """Nothing is made for nobody, and it is no error."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def app(environ, start_response):
        start_response('200 OK', PLAIN)
        try:
            while True:
                yield b'x' * 2**16
        finally:
            loop.call_soon_threadsafe(ended.set)

    async with mounted(app, server=UncancelledServer) as client:
        async with connected(client) as (reader, writer):
            writer.write(GET)
            await reader.readexactly(2**17)
        async with asyncio.timeout(LIMIT_S):
            await ended.wait()

    assert not [r for r in caplog.records if r.levelname in ('ERROR', 'WARNING')]


async def test_a_slow_client_holds_the_application_back():
    made = 0

    def app(environ, start_response):
        nonlocal made
        start_response('200 OK', PLAIN)
        while made < 1000:
            made += 1
            yield b'x' * 2**16

    async with mounted(app) as client, connected(client) as (reader, writer):
        writer.write(GET)
        await reader.readexactly(2**16)
        assert await at_rest(lambda: made) < 500
        await reader.read()

    assert made == 1000


async def test_a_client_that_reads_nothing_is_given_up():
    result = Closing(b'x' * 2**16 for _ in range(1000))
    async with (
        mounted(answers(result), '--wsgi-stall-s', '0.1') as client,
        connected(client) as (_, writer),
    ):
        writer.write(GET)
        await result.wait_closed()


@pytest.mark.parametrize('method', ['GET', 'HEAD', 'POST'])
async def test_the_standard_librarys_validator_has_nothing_to_say(method):
    """It checks environment, input, errors, calls and iteration, and fails the request if not."""

    def app(environ, start_response):
        body = environ['wsgi.input'].read(4)
        environ['wsgi.errors'].flush()
        write = start_response('200 OK', PLAIN)
        write(b'got ')
        return [body, b'.']

    async with mounted(validator(app)) as client:
        answer = await client.request(method, '/site/a', data=b'text' if method == 'POST' else None)
        expected = {'GET': 'got .', 'HEAD': '', 'POST': 'got text.'}

        assert (answer.status, await answer.text()) == (200, expected[method])


async def test_files_are_sent_in_large_blocks(tmp_path):
    file = tmp_path / 'file'
    file.write_bytes(b'x' * 300_000)

    def app(environ, start_response):
        start_response('200 OK', PLAIN)
        return environ['wsgi.file_wrapper'](file.open('rb'), 1024)

    async with mounted(app) as client:
        answer = await client.get('/site/')
        sizes = [len(data) async for data, _ in answer.content.iter_chunks()]

    assert sum(sizes) == 300_000
    assert len(sizes) < 50
