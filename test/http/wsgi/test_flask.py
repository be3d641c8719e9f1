"""Flask, as it is, in a service."""

import io

import flask
import pytest
from aiohttp import FormData

from test.http.wsgi.mounted import mounted


@pytest.fixture
def site():
    app = flask.Flask('site')
    app.config['SECRET_KEY'] = 'secret'

    @app.route('/')
    def root():
        return {'here': flask.url_for('root'), 'there': flask.url_for('root', _external=True)}

    @app.route('/<name>')
    def named(name):
        return {'name': name, 'args': flask.request.args.to_dict()}

    @app.post('/form')
    def form():
        return {'form': flask.request.form.to_dict(), 'json': flask.request.get_json(silent=True)}

    @app.post('/upload')
    def upload():
        return {name: len(file.read()) for name, file in flask.request.files.items()}

    @app.route('/go')
    def go():
        return flask.redirect(flask.url_for('named', name='ä b'))

    @app.route('/stream')
    def stream():
        @flask.stream_with_context
        def lines():
            for number in range(3):
                yield f'{number} {flask.request.path}\n'

        return flask.Response(lines(), mimetype='text/plain')

    @app.route('/file')
    def file():
        return flask.send_file(io.BytesIO(b'x' * 200_000), mimetype='text/plain')

    @app.route('/visits')
    def visits():
        flask.session['visits'] = flask.session.get('visits', 0) + 1
        return {'visits': flask.session['visits']}

    @app.route('/fail')
    def fail():
        raise LookupError('secret')

    return app


async def test_urls_hold_the_prefix_of_service_mount_and_proxy(site):
    headers = {
        'X-Forwarded-Proto': 'https',
        'X-Forwarded-Host': 'plant.example',
        'X-Forwarded-Prefix': '/gate',
    }
    async with mounted(site, prefix=None) as client:
        answer = await (await client.get('/plant/site/', headers=headers)).json()
        moved = await client.get('/plant/site/go', headers=headers, allow_redirects=False)

    assert answer['here'] == '/gate/plant/site/'
    assert answer['there'] == 'https://plant.example/gate/plant/site/'
    assert moved.headers['Location'] == '/gate/plant/site/%C3%A4%20b'


async def test_paths_queries_forms_and_json_arrive(site):
    async with mounted(site) as client:
        named = await (await client.get('/site/ä ö%?q=ü')).json()
        form = await (await client.post('/site/form', data={'a': 'ä'})).json()
        json = await (await client.post('/site/form', json={'a': 1})).json()

    assert named == {'name': 'ä ö%', 'args': {'q': 'ü'}}
    assert form['form'] == {'a': 'ä'}
    assert json['json'] == {'a': 1}


async def test_files_are_uploaded(site):
    data = FormData()
    data.add_field('file', io.BytesIO(b'x' * 500_000), filename='file')
    async with mounted(site) as client:
        assert await (await client.post('/site/upload', data=data)).json() == {'file': 500_000}


async def test_streams_and_files_come_back(site):
    async with mounted(site) as client:
        stream = await (await client.get('/site/stream')).text()
        file = await (await client.get('/site/file')).read()

    assert stream == '0 /stream\n1 /stream\n2 /stream\n'
    assert file == b'x' * 200_000


async def test_sessions_work_below_the_root_path(site):
    async with mounted(site, '--root-path', '/gate') as client:
        first = await client.get('/site/visits')
        cookie = first.cookies['session']
        again = await client.get('/site/visits', headers={'Cookie': f'session={cookie.value}'})

        assert cookie['path'] == '/gate'
        assert await again.json() == {'visits': 2}


async def test_its_own_error_pages_stay(site):
    async with mounted(site) as client:
        assert (await client.get('/site/none/none')).content_type == 'text/html'
        failed = await client.get('/site/fail')
        text = await failed.text()

    assert (failed.status, 'secret' in text) == (500, False)


async def test_middleware_on_wsgi_app_stays(site):
    inner = site.wsgi_app

    def middleware(environ, start_response):
        environ['PATH_INFO'] = environ['PATH_INFO'].replace('/old', '/new')
        return inner(environ, start_response)

    site.wsgi_app = middleware
    async with mounted(site) as client:
        assert (await (await client.get('/site/old')).json())['name'] == 'new'
