"""CORS headers stand on every response."""

import pytest
from aiohttp import web

from test.http.serving import serving

ORIGIN = 'Access-Control-Allow-Origin'
PAGE = {'Origin': 'https://app.example'}


async def ok(request):
    return web.json_response({})


async def crash(request):
    raise RuntimeError('boom')


async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b'part')
    await response.write_eof()
    return response


async def refuse(request):
    raise web.HTTPUnprocessableEntity


async def read(request):
    return web.Response(body=await request.read())


def add_routes(app):
    app.router.add_get('/ok', ok)
    app.router.add_get('/crash', crash)
    app.router.add_get('/stream', stream)
    app.router.add_get('/refuse', refuse)
    app.router.add_post('/read', read)


@pytest.mark.parametrize(
    ('method', 'path', 'status'),
    [
        ('GET', '/plant/ok', 200),
        ('GET', '/plant/stream', 200),
        ('GET', '/plant/nothing', 404),
        ('PUT', '/plant/ok', 405),
        ('GET', '/plant/refuse', 422),
        ('GET', '/plant/crash', 500),
    ],
)
async def test_every_response_has_the_headers(method, path, status):
    async with serving(routes=add_routes) as client:
        answer = await client.request(method, path)

        assert answer.status == status
        assert answer.headers[ORIGIN] == '*'
        assert 'Access-Control-Allow-Credentials' not in answer.headers


async def test_a_body_that_is_too_large_has_the_headers():
    async with serving('--max-body-mib', '0.001', routes=add_routes) as client:
        answer = await client.post('/plant/read', data=b'x' * 5000)

        assert answer.status == 413
        assert answer.headers[ORIGIN] == '*'


async def test_a_preflight_is_answered():
    """Whatever the route: a browser asks before it sends."""
    async with serving(routes=add_routes) as client:
        answer = await client.options(
            '/plant/ok',
            headers={
                **PAGE,
                'Access-Control-Request-Method': 'PATCH',
                'Access-Control-Request-Headers': 'x-tank',
            },
        )

        assert answer.status == 204
        assert 'PATCH' in answer.headers['Access-Control-Allow-Methods']
        assert answer.headers['Access-Control-Allow-Headers'] == 'x-tank'
        assert answer.headers[ORIGIN] == '*'


async def test_options_without_a_preflight_reaches_the_route():
    async with serving(routes=add_routes) as client:
        assert (await client.options('/plant/ok')).status == 405


async def test_listed_origins_are_echoed_with_credentials():
    args = ('--cors-origins', 'https://app.example,https://b.example')
    async with serving(*args, routes=add_routes) as client:
        answer = await client.get('/plant/nothing', headers=PAGE)

        assert answer.headers[ORIGIN] == 'https://app.example'
        assert answer.headers['Access-Control-Allow-Credentials'] == 'true'
        assert answer.headers['Vary'] == 'Origin'


async def test_other_origins_get_no_permission_but_vary():
    async with serving('--cors-origins', 'https://b.example', routes=add_routes) as client:
        answer = await client.get('/plant/ok', headers=PAGE)

        assert ORIGIN not in answer.headers
        assert answer.headers['Vary'] == 'Origin'
