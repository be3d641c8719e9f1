"""Every resource of a service is found under its prefix."""

import pytest
from aiohttp import web

from service_scaffold.http import prefix
from test.http.serving import serving


async def echo(request):
    return web.json_response(dict(request.match_info))


def add_routes(app):
    app.router.add_get('/', echo)
    app.router.add_get('/plain', echo)
    app.router.add_get('/tanks/{tank}', echo, name='tank')
    app.router.add_get(r'/levels/{level:\d+}', echo)
    app.router.add_get('/files{tail:.*}', echo)


@pytest.mark.parametrize(
    ('path', 'found'),
    [
        ('/plain', {}),
        ('/', {}),
        ('/tanks/a', {'tank': 'a'}),
        ('/levels/12', {'level': '12'}),
        ('/files/a/b', {'tail': '/a/b'}),
    ],
)
async def test_routes_are_found_under_the_prefix_only(path, found):
    """Plain, dynamic and regular-expression routes move."""
    async with serving(routes=add_routes) as client:
        answer = await client.get(f'/plant{path}')
        assert (answer.status, await answer.json()) == (200, found)
        assert (await client.get(path)).status == 404


async def test_a_regular_expression_still_refuses_under_the_prefix():
    async with serving(routes=add_routes) as client:
        assert (await client.get('/plant/levels/high')).status == 404


async def test_sub_applications_move_at_any_depth():
    """A sub-app of a sub-app is found, too, and its wrong method is a 405."""

    def nested(app):
        inner, outer = web.Application(), web.Application()
        inner.router.add_get('/leaf/{name}', echo)
        outer.router.add_get('/branch', echo)
        outer.add_subapp('/inner', inner)
        app.add_subapp('/outer', outer)

    async with serving(routes=nested) as client:
        assert (await client.get('/plant/outer/branch')).status == 200
        leaf = await client.get('/plant/outer/inner/leaf/x')
        assert await leaf.json() == {'name': 'x'}
        assert (await client.post('/plant/outer/branch')).status == 405
        assert (await client.get('/outer/branch')).status == 404


async def test_static_files_move(tmp_path):
    (tmp_path / 'a.txt').write_text('tank')

    async with serving(routes=lambda app: app.router.add_static('/files', tmp_path)) as client:
        assert await (await client.get('/plant/files/a.txt')).text() == 'tank'
        assert (await client.get('/files/a.txt')).status == 404


async def test_applications_of_a_host_move():
    """An app chosen by host name has no path of its own; its resources move."""

    def by_host(app):
        local = web.Application()
        local.router.add_get('/local', echo)
        app.add_domain('127.0.0.1', local)

    async with serving(routes=by_host) as client:
        assert (await client.get('/plant/local')).status == 200


async def test_generated_urls_carry_the_prefix():
    async with serving(routes=add_routes) as client:
        assert str(client.app.router['tank'].url_for(tank='a')) == '/plant/tanks/a'


async def test_an_own_prefix_or_none():
    async with serving(routes=add_routes, prefix='/deep/er/') as client:
        assert (await client.get('/deep/er/plain')).status == 200
    async with serving(routes=add_routes, prefix='') as client:
        assert (await client.get('/plain')).status == 200
        assert (await client.get('/_service/status')).status == 200


@pytest.mark.parametrize('wrong', ['/a b', '/a?b', '/{name}', 'a//b', '..', '/a/./b'])
def test_what_is_no_prefix_is_refused(wrong):
    with pytest.raises(ValueError, match='not a path prefix'):
        prefix.normalise(wrong)
