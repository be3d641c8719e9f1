"""What a proxy says is believed when it is trusted, and never changes matching."""

import pytest
from aiohttp import web

from service_scaffold.http import forwarded
from test.http.serving import serving


async def seen(request):
    return web.json_response(
        {
            'remote': request.remote,
            'url': str(request.url),
            'root': forwarded.root_path(request),
            'tank': request.match_info.get('tank'),
        }
    )


async def login(request):
    response = web.Response()
    response.set_cookie('root', '1')
    response.set_cookie('deep', '1', path='/plant')
    response.set_cookie('prefixed', '1', path='/gate/plant')
    return response


async def move(request):
    raise web.HTTPFound(request.query['to'])


def add_routes(app):
    app.router.add_get('/seen/{tank}', seen)
    app.router.add_get('/login', login)
    app.router.add_get('/move', move)


async def see(headers, *args):
    async with serving(*args, routes=add_routes) as client:
        return await (await client.get('/plant/seen/a', headers=headers)).json()


async def test_a_trusted_proxy_is_believed():
    found = await see(
        {
            'X-Forwarded-For': '203.0.113.7',
            'X-Forwarded-Proto': 'https',
            'X-Forwarded-Host': 'plant.example',
            'X-Forwarded-Prefix': '/gate/',
        }
    )

    assert found == {
        'remote': '203.0.113.7',
        'url': 'https://plant.example/plant/seen/a',
        'root': '/gate',
        'tank': 'a',
    }


async def test_nobody_else_is_believed():
    headers = {'X-Forwarded-For': '203.0.113.7', 'X-Forwarded-Prefix': '/gate'}

    found = await see(headers, '--trusted-proxies', '10.0.0.0/8')

    assert (found['remote'], found['root']) == ('127.0.0.1', '')


async def test_the_client_cannot_put_itself_before_the_proxies():
    """The first address that is no trusted proxy, seen from here, is the client."""
    headers = {'X-Forwarded-For': '1.1.1.1, 203.0.113.7, 10.0.0.2'}

    found = await see(headers, '--trusted-proxies', '127.0.0.0/8,10.0.0.0/8')

    assert found['remote'] == '203.0.113.7'


@pytest.mark.parametrize(
    ('chain', 'remote'),
    [
        ('203.0.113.7:5555', '203.0.113.7'),
        ('[2001:db8::1]:5555', '2001:db8::1'),
        ('"[2001:db8::1]"', '2001:db8::1'),
        ('203.0.113.7, 10.0.0.2:80', '203.0.113.7'),
        ('203.0.113.7, unknown, 10.0.0.2', '10.0.0.2'),
        ('<script>', '127.0.0.1'),
    ],
)
async def test_addresses_may_have_ports_and_nothing_else_is_one(chain, remote):
    found = await see({'X-Forwarded-For': chain}, '--trusted-proxies', '127.0.0.0/8,10.0.0.0/8')

    assert found['remote'] == remote


@pytest.mark.parametrize('prefix', ['//evil.example', 'evil', '/a b', '/"><script>'])
async def test_a_prefix_that_is_none_is_ignored(prefix):
    assert (await see({'X-Forwarded-Prefix': prefix}))['root'] == ''


@pytest.mark.parametrize(
    ('to', 'location'),
    [
        ('/plant/x', '/gate/plant/x'),
        ('/gate/plant/x', '/gate/plant/x'),
        ('/', '/gate/'),
        ('/?a=1', '/gate/?a=1'),
        ('x', 'x'),
        ('//other.example/x', '//other.example/x'),
        ('https://other.example/x', 'https://other.example/x'),
    ],
)
async def test_redirects_carry_the_root_path(to, location):
    async with serving('--root-path', '/gate', routes=add_routes) as client:
        answer = await client.get('/plant/move', params={'to': to}, allow_redirects=False)

        assert answer.headers['Location'] == location


async def test_cookie_paths_carry_the_root_path():
    async with serving('--root-path', '/gate', routes=add_routes) as client:
        answer = await client.get('/plant/login')

        paths = {name: cookie['path'] for name, cookie in answer.cookies.items()}
        assert paths == {'root': '/gate', 'deep': '/gate/plant', 'prefixed': '/gate/plant'}


async def test_the_root_path_never_changes_matching():
    async with serving('--root-path', '/gate', routes=add_routes) as client:
        assert (await client.get('/plant/seen/a')).status == 200
        assert (await client.get('/gate/plant/seen/a')).status == 404


def test_addresses_of_a_dual_stack_socket_are_known():
    proxies = forwarded.Forwarded(['10.0.0.0/8', '::1/128'])

    assert proxies.is_trusted('::ffff:10.1.2.3')
    assert proxies.is_trusted('::1')
    assert not proxies.is_trusted('192.0.2.1')
    assert not proxies.is_trusted('unknown')
    assert not proxies.is_trusted(None)
