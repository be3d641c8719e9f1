"""Where a mounted WSGI application stands among the routes."""

import contextvars

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from service_scaffold import service
from service_scaffold.http import wsgi
from test.http.serving import serving
from test.http.wsgi.mounted import Recorder, mounted


async def native(request):
    return web.Response(text='native')


@pytest.mark.parametrize(
    ('at', 'prefix', 'path', 'script_name', 'path_info'),
    [
        ('', '', '/', '', '/'),
        ('', '', '/a/b', '', '/a/b'),
        ('/', '', '/a', '', '/a'),
        ('/site', '', '/site', '/site', ''),
        ('/site', '', '/site/', '/site', '/'),
        ('/site', '', '/site/a', '/site', '/a'),
        ('', None, '/plant', '/plant', ''),
        ('', None, '/plant/a', '/plant', '/a'),
        ('/site', None, '/plant/site/a/b', '/plant/site', '/a/b'),
        ('/a/b', '/c/d', '/c/d/a/b//e', '/c/d/a/b', '//e'),
        ('/ä', '/ö', '/ö/ä/ü', '/\xc3\xb6/\xc3\xa4', '/\xc3\xbc'),
    ],
)
async def test_it_gets_what_is_below_its_prefix(at, prefix, path, script_name, path_info):
    recorder = Recorder()

    async with mounted(recorder, at=at, prefix=prefix) as client:
        assert (await client.get(path)).status == 200

    assert recorder.environ['SCRIPT_NAME'] == script_name
    assert recorder.environ['PATH_INFO'] == path_info


@pytest.mark.parametrize('path', ['/', '/sites', '/sit', '/site%2Fa', '/a/site'])
async def test_it_gets_nothing_else(path):
    async with mounted(Recorder(), at='/site') as client:
        assert (await client.get(path)).status == 404


@pytest.mark.parametrize('prefix', [None, '', '/x'])
@pytest.mark.parametrize('first', [True, False])
async def test_native_routes_win(prefix, first):
    """Whether they were added before or after, and whatever pattern they have."""

    def routes(app):
        if first:
            wsgi.mount(app, '', Recorder(b'wsgi'))
        app.router.add_get('/{name}', native)
        app.router.add_get('/a/b', native)
        if not first:
            wsgi.mount(app, '', Recorder(b'wsgi'))

    async with serving(routes=routes, prefix=prefix) as client:
        base = {None: '/plant'}.get(prefix, prefix)

        async def get(path):
            return await (await client.get(base + path)).text()

        assert await get('/tank') == 'native'
        assert await get('/a/b') == 'native'
        assert await get('/a/c') == 'wsgi'
        assert (await client.get('/_service/status')).content_type == 'application/json'
        assert (await client.get(f'{base}/api/doc/swagger.json')).content_type == 'application/json'


async def test_the_longer_prefix_wins():
    def routes(app):
        wsgi.mount(app, '', Recorder(b'all'))
        wsgi.mount(app, '/site', Recorder(b'site'))

    async with serving(routes=routes) as client:
        assert await (await client.get('/plant/site/x')).text() == 'site'
        assert await (await client.get('/plant/x')).text() == 'all'


@pytest.mark.parametrize('prefix', ['', None])
async def test_it_can_be_mounted_in_a_sub_application(prefix):
    recorder = Recorder()

    def routes(app):
        sub = web.Application()
        wsgi.mount(sub, '/site', recorder)
        sub.router.add_get('/{name}', native)
        wsgi.mount(sub, '', recorder)
        app.add_subapp('/sub', sub)

    async with serving('--wsgi-threads', '3', routes=routes, prefix=prefix) as client:
        base = '' if prefix == '' else '/plant'
        assert (await client.get(f'{base}/sub/site/a')).status == 200
        assert await (await client.get(f'{base}/sub/x')).text() == 'native'

    assert recorder.environ['SCRIPT_NAME'] == f'{base}/sub/site'
    assert recorder.environ['PATH_INFO'] == '/a'


async def test_it_needs_no_service_around_it():
    """In a bare application, as in tests of one's own."""
    app = web.Application()
    wsgi.mount(app, '/site', Recorder())

    async with TestClient(TestServer(app)) as client:
        assert await (await client.get('/site/x')).text() == 'ok'


async def test_middlewares_are_around_it():
    """What they put into the context is there, and so is a body that they have read."""
    user = contextvars.ContextVar('user', default='nobody')
    recorder = Recorder()

    def app(environ, start_response):
        recorder(environ, start_response)
        return [user.get().encode()]

    @web.middleware
    async def authenticate(request, handler):
        await request.read()
        user.set('somebody')
        return await handler(request)

    def routes(application):
        application.middlewares.append(authenticate)
        wsgi.mount(application, '/site', app)

    async with serving(routes=routes, prefix='') as client:
        for size in (10, 200_000):
            answer = await client.post('/site/', data=b'x' * size)
            assert await answer.text() == 'somebody'
            assert recorder.bodies[-1] == b'x' * size


async def test_every_method_is_passed_on():
    recorder = Recorder()

    async with mounted(recorder) as client:
        for method in ('GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND'):
            assert (await client.request(method, '/site/')).status == 200
            assert recorder.environ['REQUEST_METHOD'] == method


@pytest.mark.parametrize('prefix', ['/a b', '/{a}', '/a?b'])
def test_what_is_no_prefix_is_refused(prefix):
    with pytest.raises(ValueError, match='not a path prefix'):
        wsgi.mount(web.Application(), prefix, Recorder())


def test_one_prefix_takes_one_application():
    """Nothing would ever reach the second."""
    app = web.Application()
    wsgi.mount(app, '/site', Recorder())

    with pytest.raises(ValueError, match='/site'):
        wsgi.mount(app, 'site/', Recorder())


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match='None'):
        wsgi.mount(web.Application(), '/site', None)


async def test_an_application_that_runs_takes_no_mount():
    app = service.create_app('plant', raw_args=[])
    async with TestServer(app):
        with pytest.raises(RuntimeError):
            wsgi.mount(app, '/site', Recorder())


@pytest.mark.parametrize('threads', ['0', '1025', 'x'])
def test_a_wrong_number_of_threads_is_a_usage_error(threads, capsys):
    with pytest.raises(SystemExit) as caught:
        service.create_app('plant', raw_args=['--wsgi-threads', threads])

    assert caught.value.code == 2
    assert '--wsgi-threads' in capsys.readouterr().err
