"""Request bodies are streamed in, within their limits."""

import asyncio
import gzip
import threading

import pytest

from test.http.serving import UncancelledServer
from test.http.wsgi.mounted import LIMIT_S, Recorder, at_rest, connected, mounted, sent

MIB = 2**20


async def blocks(count, size=2**16):
    for _ in range(count):
        yield b'x' * size


@pytest.mark.parametrize('size', [0, 1, 2**16, 2**16 + 1, MIB])
@pytest.mark.parametrize('chunked', [True, False])
async def test_bodies_arrive_whole(size, chunked):
    recorder = Recorder()
    data = bytes(range(256)) * (size // 256 + 1)

    async def stream():
        yield data[:size]

    async with mounted(recorder) as client:
        answer = await client.post('/site/', data=stream() if chunked else data[:size])

    assert answer.status == 200
    assert recorder.bodies == [data[:size]]
    assert recorder.environ.get('CONTENT_LENGTH') == (None if chunked else str(size))


async def test_a_body_is_read_by_lines():
    def app(environ, start_response):
        body = environ['wsgi.input']
        lines = [body.readline(), body.read(2), *body.readlines(), *body]
        start_response('200 OK', [('X-Lines', repr(lines))])
        return []

    async def stream():
        yield b'one\ntwo\nth'
        yield b'ree\nfour'

    async with mounted(app) as client:
        answer = await client.post('/site/', data=stream())

    assert answer.headers['X-Lines'] == repr([b'one\n', b'tw', b'o\n', b'three\n', b'four'])


async def test_the_view_reads_before_all_has_arrived():
    loop = asyncio.get_running_loop()
    first = loop.create_future()

    def app(environ, start_response):
        data = environ['wsgi.input'].read(4)
        loop.call_soon_threadsafe(first.set_result, data)
        data += environ['wsgi.input'].read()
        start_response('200 OK', [])
        return [data]

    async def stream():
        yield b'ping'
        yield (await first).replace(b'i', b'o')

    async with mounted(app) as client:
        answer = await client.post('/site/', data=stream())

        assert await answer.text() == 'pingpong'


async def test_what_the_view_does_not_read_waits_at_the_client():
    """The server takes in a few buffers of a body of 64 MiB, and no more."""
    loop = asyncio.get_running_loop()
    begun, go_on = asyncio.Event(), threading.Event()

    def app(environ, start_response):
        environ['wsgi.input'].read(1)
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(LIMIT_S)
        start_response('200 OK', [])
        return []

    async with mounted(app, '--max-body-mib', '100') as client, connected(client) as (_, writer):
        writer.write(b'POST /site/ HTTP/1.1\r\nHost: a\r\nContent-Length: 67108864\r\n\r\n')
        writer.write(b'x' * 64 * MIB)
        await begun.wait()

        assert await at_rest(writer.transport.get_write_buffer_size) > 48 * MIB
        go_on.set()


async def test_a_slow_small_body_holds_no_thread():
    recorder = Recorder()
    async with (
        mounted(recorder, '--wsgi-threads', '1', '--wsgi-wait-s', '5') as client,
        connected(client) as (reader, writer),
    ):
        writer.write(b'POST /site/ HTTP/1.0\r\nContent-Length: 4\r\n\r\nhal')
        await writer.drain()
        assert (await client.get('/site/')).status == 200
        writer.write(b'f')

        assert b'200 OK' in await reader.read()

    assert recorder.bodies == [b'', b'half']


async def test_a_body_with_a_length_over_the_limit_never_reaches_the_view():
    recorder = Recorder()
    async with mounted(recorder) as client:
        answer = await client.post('/site/', data=b'x' * (MIB + 1))
        problem = await answer.json()

    assert (answer.status, problem['status']) == (413, 413)
    assert recorder.environs == []


EXPECTS = b'POST /site/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n'


async def test_a_body_that_will_be_refused_is_not_asked_for():
    """Who asks before it sends is told at once, and that the connection is of no more use."""
    head = EXPECTS + b'Content-Length: 99999999\r\n\r\n'
    async with mounted(reads_all) as client, connected(client) as (reader, writer):
        writer.write(head)
        answer = await reader.readuntil(b'\r\n\r\n')

    assert answer.startswith(b'HTTP/1.1 413 ')
    assert b'Connection: close' in answer


async def test_a_body_that_is_welcome_is_asked_for():
    head = EXPECTS + b'Content-Length: 4\r\n\r\n'
    async with mounted(reads_all) as client, connected(client) as (reader, writer):
        writer.write(head)
        assert await reader.readuntil(b'\r\n\r\n') == b'HTTP/1.1 100 Continue\r\n\r\n'
        writer.write(b'body')
        assert b' 200 ' in await reader.readline()


def reads_all(environ, start_response):
    environ['wsgi.input'].read()
    start_response('200 OK', [])
    return []


def swallows(environ, start_response):
    try:
        environ['wsgi.input'].read()
    except OSError:
        pass
    start_response('400 Bad Request', [('Content-Length', '0')])
    return []


@pytest.mark.parametrize('app', [reads_all, swallows])
async def test_a_body_that_turns_out_too_large_is_a_413(app):
    """Whatever the view makes of it."""
    async with mounted(app) as client:
        answer = await client.post('/site/', data=blocks(20))

        assert (answer.status, answer.content_type) == (413, 'application/problem+json')


async def test_a_compressed_body_arrives_decompressed_and_is_limited_so():
    recorder = Recorder()
    headers = {'Content-Encoding': 'gzip'}
    async with mounted(recorder) as client:
        small = await client.post('/site/', data=gzip.compress(b'hello' * 99), headers=headers)
        bomb = await client.post('/site/', data=gzip.compress(b'x' * 9 * MIB), headers=headers)

    assert small.status == 200
    assert recorder.bodies[0] == b'hello' * 99
    assert 'HTTP_CONTENT_ENCODING' not in recorder.environs[0]
    assert 'CONTENT_LENGTH' not in recorder.environs[0]
    assert bomb.status == 413


@pytest.mark.parametrize('length', ['9', '99999'])
async def test_a_body_that_does_not_come_is_a_408(length):
    async with (
        mounted(reads_all, '--wsgi-stall-s', '0.1') as client,
        connected(client) as (reader, writer),
    ):
        head = f'POST /site/ HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nhalf'
        writer.write(head.encode())

        answer = await reader.readuntil(b'\r\n\r\n')
        assert b'408' in answer
        assert b'Connection: close' in answer


async def test_a_malformed_body_is_a_400():
    async with mounted(reads_all) as client:
        head = b'POST /site/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n'
        answer = await sent(client, head + b'4\r\nhalf\r\nnonsense\r\n\r\n')

    assert b' 400 ' in answer.split(b'\r\n')[0]


async def test_a_client_that_leaves_ends_the_read(caplog):
    loop = asyncio.get_running_loop()
    failed = loop.create_future()
    begun = asyncio.Event()

    def app(environ, start_response):
        environ['wsgi.input'].read(1)
        loop.call_soon_threadsafe(begun.set)
        try:
            environ['wsgi.input'].read()
        except OSError as error:
            loop.call_soon_threadsafe(failed.set_result, error)
            raise
        return []

    async with mounted(app, server=UncancelledServer) as client:
        async with connected(client) as (_, writer):
            writer.write(b'POST /site/ HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\nhalf')
            await begun.wait()
        async with asyncio.timeout(LIMIT_S):
            assert isinstance(await failed, ConnectionResetError)

    assert not [r for r in caplog.records if r.levelname == 'ERROR']


async def test_a_connection_serves_on_after_a_body_that_nobody_read():
    def app(environ, start_response):
        start_response('200 OK', [('Content-Length', '2')])
        return [b'ok']

    async with mounted(app) as client, connected(client) as (reader, writer):
        for _ in range(2):
            writer.write(b'POST /site/ HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n')
            writer.write(b'x' * 100000)
            assert b'200 OK' in await reader.readuntil(b'\r\n\r\n')
            assert await reader.readexactly(2) == b'ok'
