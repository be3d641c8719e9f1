"""`WebAssetApp`: a Flask site in the process of an asset, on one port with the native routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from flask import Blueprint, Flask, current_app, redirect, session, url_for

from service_scaffold import assets
from service_scaffold.apps import WebAssetApp

blueprint = Blueprint('parts', __name__, url_prefix='/parts')


@blueprint.route('/')
def show_parts() -> dict[str, Any]:
    app = current_app.service_app  # type: ignore[attr-defined]
    return {'availability': app.avail.value, 'here': url_for('parts.show_parts')}


class Site(WebAssetApp):
    """A site with a session, a redirect, a blueprint, and a view that sets an attribute."""

    mode = assets.event('IDLE', tag='Mode')

    def create_flask_app(self) -> Flask:
        site = Flask(__name__)
        site.config['SECRET_KEY'] = 'for tests'
        inner = site.wsgi_app

        def middleware(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            environ['seen'] = True
            return inner(environ, start_response)

        site.wsgi_app = middleware  # type: ignore[method-assign]
        return site

    def configure_routes(self) -> None:
        self.app.register_blueprint(blueprint)

        @self.app.route('/')
        def show() -> dict[str, Any]:
            session['count'] = session.get('count', 0) + 1
            same = current_app.service_app is self  # type: ignore[attr-defined]
            return {'mode': self.mode.value, 'count': session['count'], 'same': same}

        @self.app.route('/set/<value>')
        def change(value: str) -> Any:
            self.sync.set('mode', value)
            return redirect(url_for('show'))

    @assets.method
    def turn(self, degrees: float) -> float:
        return degrees % 360


@asynccontextmanager
async def served(site: WebAssetApp) -> AsyncIterator[aiohttp.ClientSession]:
    await site.start()
    try:
        assert site.address is not None
        base = f'http://127.0.0.1:{site.address[1]}'
        async with aiohttp.ClientSession(base) as client:
            yield client
    finally:
        await site.stop()


def make(kind: Any = Site, **keywords: Any) -> Any:
    return kind('site', host='127.0.0.1', port=0, test_mode=True, **keywords)


async def test_views_read_attributes_and_set_them_through_the_bridge() -> None:
    site = make()
    async with served(site) as client:
        async with client.get('/') as response:
            assert await response.json() == {'mode': 'IDLE', 'count': 1, 'same': True}
        async with client.get('/set/RUN') as response:
            assert response.url.path == '/'
            assert (await response.json())['mode'] == 'RUN'
        assert site.mode.value == 'RUN'


async def test_a_blueprint_finds_the_app_and_its_availability() -> None:
    async with served(make()) as client, client.get('/parts/') as response:
        assert await response.json() == {'availability': 'AVAILABLE', 'here': '/parts/'}


async def test_native_routes_and_ours_come_before_the_site() -> None:
    site = make()

    async def native(request: web.Request) -> web.Response:
        return web.Response(text='native')

    site.application.router.add_get('/native', native)
    async with served(site) as client:
        for path, status in {
            '/native': 200,
            '/_service/status': 200,
            '/_service/api/doc': 200,
            '/_service/assets/site/mode': 200,
            '/api/doc': 404,
        }.items():
            async with client.get(path) as response:
                assert response.status == status, path
        call = {'degrees': 370}
        async with client.post('/_service/assets/site/methods/turn', json=call) as response:
            assert await response.json() == {'value': 10}


async def test_a_root_path_is_in_redirects_links_and_cookies() -> None:
    async with served(make(root_path='/my-app')) as client:
        async with client.get('/set/RUN', allow_redirects=False) as response:
            assert response.headers['Location'] == '/my-app/'
        async with client.get('/') as response:
            assert 'Path=/my-app' in response.headers['Set-Cookie']
        async with client.get('/parts/') as response:
            assert (await response.json())['here'] == '/my-app/parts/'


async def test_what_the_factory_says_of_the_root_wins() -> None:
    class Own(Site):
        def create_flask_app(self) -> Flask:
            site = super().create_flask_app()
            site.config['APPLICATION_ROOT'] = '/own'
            return site

    site = make(Own, root_path='/my-app')
    assert site.app.config['APPLICATION_ROOT'] == '/own'


async def test_the_session_cookie_has_the_path_that_the_factory_says() -> None:
    class Own(Site):
        def create_flask_app(self) -> Flask:
            site = super().create_flask_app()
            site.config['APPLICATION_ROOT'] = '/own'
            return site

    prefix = {'X-Forwarded-Prefix': '/my-app'}
    async with served(make(Own)) as client, client.get('/', headers=prefix) as response:
        assert response.headers['Set-Cookie'].endswith('; Path=/own')


async def test_a_view_with_an_event_loop_of_its_own_calls_through_the_bridge() -> None:
    """As the asynchronous views of Flask have one."""

    class Own(Site):
        def configure_routes(self) -> None:
            @self.app.route('/')
            def show() -> dict[str, Any]:
                async def work() -> None:
                    self.sync.set('mode', 'RUN')

                asyncio.run(work())
                return {'mode': self.mode.value}

    async with served(make(Own)) as client, client.get('/') as response:
        assert await response.json() == {'mode': 'RUN'}


@pytest.mark.parametrize('create', [lambda self: None, lambda self: Flask])
def test_a_factory_that_gives_no_site_is_told_so(create: Any) -> None:
    kind = type('Forgetful', (Site,), {'create_flask_app': create})

    with pytest.raises(TypeError, match=r'Forgetful\.create_flask_app .* Flask'):
        make(kind)


async def test_forwarded_headers_count_from_trusted_proxies_only() -> None:
    forwarded = {
        'X-Forwarded-Prefix': '/there',
        'X-Forwarded-Proto': 'https',
        'X-Forwarded-Host': 'shop.example',
    }
    for trusted, where in (('127.0.0.0/8', '/there/'), ('10.0.0.0/8', '/')):
        async with (
            served(make(trusted_proxies=trusted)) as client,
            client.get('/set/RUN', headers=forwarded, allow_redirects=False) as response,
        ):
            assert response.headers['Location'] == where


def test_a_main_loop_in_a_thread_is_refused() -> None:
    wrong = type('Wrong', (Site,), {'main_loop': lambda self: None})
    with pytest.raises(TypeError, match='override async_main_loop'):
        make(wrong)


def test_the_port_is_4000_unless_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Site('site', test_mode=True).config['port'] == 4000
    monkeypatch.setenv('PORT', '4455')
    assert Site('site', test_mode=True).config['port'] == 4455


async def test_a_taken_port_ends_it_before_anything_is_announced() -> None:
    async with served(first := make()):
        assert first.address is not None
        second = Site('second', host='127.0.0.1', port=first.address[1], test_mode=True)
        assert await asyncio.wait_for(second.async_run(), 10) == 1
        assert second.avail.value == assets.UNAVAILABLE


class Dashboard(WebAssetApp):
    """The example of OpenFactory's documentation: a status, a background task, a method."""

    status = assets.event('idle', tag='App.Status')
    rounds = 0

    def configure_routes(self) -> None:
        @self.app.route('/')
        def root() -> dict[str, Any]:
            service = current_app.service_app  # type: ignore[attr-defined]
            return {'status': service.status.value}

        @self.app.route('/fail')
        def fail() -> str:
            raise ZeroDivisionError('in a view')

        @self.app.route('/ask')
        def ask() -> dict[str, Any]:
            return {'moved': self.sync.request('site', 'move_axis', x=1.5, y=2)}

    @assets.method(description='Move axis')
    def move_axis(self, x: float, y: float) -> list[float]:
        return [x, y]

    async def async_main_loop(self) -> None:
        while True:
            await asyncio.sleep(0.01)
            self.rounds += 1


async def test_the_example_of_the_documentation_serves_while_its_loop_runs() -> None:
    site = make(Dashboard)
    async with served(site) as client:
        async with client.get('/') as response:
            assert await response.json() == {'status': 'idle'}
        await site.set('status', 'busy')
        async with client.get('/') as response:
            assert await response.json() == {'status': 'busy'}
        before = site.rounds
        async with client.get('/ask') as response:
            assert await response.json() == {'moved': [1.5, 2.0]}
        await asyncio.wait_for(_grows(site, before), 5)


async def _grows(site: Dashboard, before: int) -> None:
    while site.rounds <= before:  # noqa: ASYNC110  # its own loop counts
        await asyncio.sleep(0.01)


async def test_a_view_that_raises_is_a_500_and_harms_nothing_else() -> None:
    site = make(Dashboard)
    async with served(site) as client:
        async with client.get('/fail') as response:
            assert response.status == 500
            assert 'in a view' not in await response.text()
        async with client.get('/') as response:
            assert response.status == 200
        assert site.avail.value == assets.AVAILABLE


async def test_a_loop_that_raises_ends_the_site_with_status_1_and_says_so() -> None:
    async def crash(self: Any) -> None:
        raise ZeroDivisionError('too fast')

    site = make(type('Crashing', (Dashboard,), {'async_main_loop': crash}))
    assert await asyncio.wait_for(site.async_run(), 10) == 1
    assert site.avail.value == assets.UNAVAILABLE


async def test_it_listens_on_all_interfaces_unless_told() -> None:
    assert Dashboard('site', test_mode=True).config['host'] == '0.0.0.0'
