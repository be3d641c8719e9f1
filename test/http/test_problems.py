"""Errors are JSON problems, without internals unless `--debug`."""

import asyncio
import json
import logging

import aiohttp
import pytest
from aiohttp import web

from service_scaffold import errors
from service_scaffold.http import problems
from test.http.serving import UncancelledServer, serving
from test.running import get, running


def raises(error):
    async def handler(request):
        raise error

    return handler


def add_routes(app):
    app.router.add_get('/crash', raises(RuntimeError('the secret of the tank')))
    app.router.add_get('/bus', raises(errors.PublishError('amqp://broker is away')))
    app.router.add_get('/late', raises(TimeoutError()))
    app.router.add_get('/away', raises(web.HTTPFound('/elsewhere')))
    app.router.add_get('/conflict', raises(web.HTTPConflict(text='taken', headers={'X-By': 'me'})))
    own = web.HTTPConflict(text='{"mine": 1}', content_type='application/json')
    app.router.add_get('/own', raises(own))
    app.router.add_get('/more', raises(problems.ProblemError(418, 'tea', pot=3)))
    app.router.add_get('/none', nothing)
    app.router.add_get('/returned', returned)
    app.router.add_get('/leak', raises(RuntimeError('amqp://joe:hunter2@rabbit is odd')))
    app.router.add_get('/crash/{what}', raises(RuntimeError('again')))
    app.router.add_get('/cut', cut)
    app.router.add_post('/body', body)


async def nothing(request):
    return None


async def returned(request):
    return web.HTTPConflict(text='taken', headers={'X-By': 'me'})


async def cut(request):
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b'half of it')
    raise RuntimeError('in the middle')


async def body(request):
    return web.Response(body=await request.read())


async def problem(path, *args, **request):
    async with serving(*args, routes=add_routes) as client:
        answer = await client.get(path, **request)
        assert answer.content_type == 'application/problem+json'
        found = await answer.json(content_type=None)
        assert found['status'] == answer.status
        return found, answer


async def test_an_unknown_path_is_a_problem():
    found, _ = await problem('/plant/nothing')

    assert found == {'type': 'about:blank', 'title': 'Not Found', 'status': 404}


async def test_a_wrong_method_names_the_right_ones():
    async with serving(routes=add_routes) as client:
        answer = await client.put('/plant/crash')

        assert answer.status == 405
        assert 'GET' in answer.headers['Allow']
        assert answer.content_type == 'application/problem+json'


async def test_an_exception_is_a_500_without_internals(caplog):
    """It is logged with its traceback, once."""
    found, _ = await problem('/plant/crash')

    assert found == {'type': 'about:blank', 'title': 'Internal Server Error', 'status': 500}
    logged = [record for record in caplog.records if record.exc_info]
    assert [record.levelno for record in logged] == [logging.ERROR]
    assert 'the secret of the tank' in str(logged[0].exc_info[1])


async def test_debug_shows_internals():
    found, _ = await problem('/plant/crash', '--debug')

    assert found['detail'] == 'the secret of the tank'
    assert found['exception'] == 'RuntimeError'
    assert any('problems' in line for line in found['traceback'])


async def test_debug_shows_no_credentials():
    found, _ = await problem('/plant/leak', '--debug')

    assert 'amqp://***@rabbit is odd' in found['detail']
    assert 'hunter2' not in json.dumps(found)


async def test_what_is_asked_for_cannot_forge_a_line_of_the_log(caplog):
    await problem('/plant/crash/x%0a2026%20CRITICAL%20forged')

    assert 'GET /plant/crash/x%0A2026' in caplog.text
    assert not [record for record in caplog.records if '\n' in record.getMessage()]


async def test_a_body_that_cannot_be_received_is_a_400(caplog):
    """A handler that reads it cannot know; the client has sent it so."""
    async with serving(routes=add_routes) as client:
        headers = {'Content-Encoding': 'gzip'}
        answer = await client.post('/plant/body', data=b'not gzip', headers=headers)

        assert answer.status == 400
        assert answer.content_type == 'application/problem+json'
    assert 'service_scaffold.http.problems' not in {
        record.name for record in caplog.records if record.levelno >= logging.ERROR
    }


async def test_a_client_that_goes_away_is_no_failure_of_ours():
    source = """
        async def events(request):
            response = web.StreamResponse()
            await response.prepare(request)
            try:
                while True:
                    await response.write(b'data: 1')
                    await asyncio.sleep(0.01)
            finally:
                print('gone', flush=True)
        app.router.add_get('/events', events)
    """
    async with running(source, '--host', '127.0.0.1', '--port', '0') as process:
        url = await process.url()
        await process.logged('Started in')
        async with aiohttp.ClientSession() as client:
            answer = await client.get(f'{url}/plant/events')
            await answer.content.readexactly(7)
            answer.close()
        await process.printed('gone')

        assert 'route="/plant/events",status="499"' in (await get(f'{url}/_service/metrics'))[1]
        assert 'Traceback' not in process.log


async def test_a_broker_that_is_away_is_a_503():
    found, _ = await problem('/plant/bus')

    assert found['status'] == 503
    assert 'amqp' not in json.dumps(found)


async def test_a_limit_that_ran_out_is_a_504():
    found, _ = await problem('/plant/late')

    assert found['status'] == 504


async def test_http_errors_keep_text_and_headers():
    found, answer = await problem('/plant/conflict')

    assert (found['status'], found['detail']) == (409, 'taken')
    assert answer.headers['X-By'] == 'me'


async def test_an_http_error_may_be_returned():
    found, answer = await problem('/plant/returned')

    assert (answer.status, found['detail'], answer.headers['X-By']) == (409, 'taken', 'me')


async def test_a_body_of_its_own_stays():
    async with serving(routes=add_routes) as client:
        answer = await client.get('/plant/own')

        assert (answer.status, await answer.json()) == (409, {'mine': 1})


async def test_more_members_can_be_given():
    found, _ = await problem('/plant/more')

    assert (found['detail'], found['pot']) == ('tea', 3)


async def test_a_redirect_is_no_problem():
    async with serving(routes=add_routes) as client:
        answer = await client.get('/plant/away', allow_redirects=False)

        assert (answer.status, answer.headers['Location']) == (302, '/elsewhere')


async def test_a_body_over_the_limit_is_a_413():
    async with serving('--max-body-mib', '0.001', routes=add_routes) as client:
        fits = await client.post('/plant/body', data=b'x' * 1000)
        over = await client.post('/plant/body', data=b'x' * 2000)

        assert (fits.status, over.status) == (200, 413)
        assert over.content_type == 'application/problem+json'


async def test_a_handler_without_a_response_is_a_500(caplog):
    found, _ = await problem('/plant/none')

    assert found['status'] == 500
    assert 'returned None' in caplog.text


async def test_a_stream_that_fails_is_cut_and_logged_once(caplog):
    """The client must not take half of it for the whole."""
    async with serving(routes=add_routes) as client:
        answer = await client.get('/plant/cut')
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
            await asyncio.wait_for(answer.read(), 2)

    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in logged] == ['GET /plant/cut failed']


def test_a_problem_has_an_error_status():
    with pytest.raises(ValueError, match='400 to 599'):
        problems.ProblemError(302)


async def test_a_client_that_leaves_a_stream_that_waits_for_it_is_no_error(caplog):
    made = 0
    ended = asyncio.Event()

    async def stream(request):
        nonlocal made
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                made += 1
                await response.write(b'x' * 2**16)
        finally:
            ended.set()

    def route(app):
        app.router.add_get('/stream', stream)

    async with (
        serving(routes=route, prefix='', server=UncancelledServer) as client,
        asyncio.timeout(20),
    ):
        reader, writer = await asyncio.open_connection('127.0.0.1', client.port)
        writer.write(b'GET /stream HTTP/1.1\r\nHost: a\r\n\r\n')
        await reader.readexactly(1)
        before = -1
        while before != made:
            before = made
            await asyncio.sleep(0.1)
        writer.transport.abort()
        await ended.wait()
        await client.get('/_service/status')  # by now it would have been logged

    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
