"""The environment of a call is that of PEP 3333."""

import pytest
from yarl import URL

from test.http.wsgi.mounted import Recorder, mounted, sent


@pytest.fixture
def recorder():
    return Recorder()


async def raw(client, target=b'/site/', headers=b'', version=b'1.1'):
    """Send a request as it stands, and return the status line."""
    head = b'GET ' + target + b' HTTP/' + version + b'\r\n'
    host = b'' if version == b'1.0' else b'Host: plant.example:8080\r\nConnection: close\r\n'
    return (await sent(client, head + host + headers + b'\r\n')).split(b'\r\n')[0]


@pytest.mark.parametrize(
    ('target', 'path_info', 'query'),
    [
        (b'/site/a%20b', '/a b', ''),
        (b'/site/%C3%A4?q=%C3%A4&r', '/\xc3\xa4', 'q=%C3%A4&r'),
        (b'/site/a%2Fb%25', '/a/b%', ''),
        (b'/site/%FF', '/\xff', ''),
        (b'/s%69te/x', '/x', ''),
        (b'/site/a+b;c=1?a=b?c', '/a+b;c=1', 'a=b?c'),
        (b'http://plant.example/site/x?y', '/x', 'y'),
    ],
)
async def test_paths_are_bytes_in_latin_1(recorder, target, path_info, query):
    async with mounted(recorder) as client:
        assert b'200' in await raw(client, target)

    environ = recorder.environ
    assert environ['PATH_INFO'] == path_info
    assert environ['QUERY_STRING'] == query
    assert environ['SCRIPT_NAME'] == '/site'


async def test_what_pep_3333_demands_is_there(recorder):
    async with mounted(recorder) as client:
        await raw(client, headers=b'Content-Type: text/plain\r\nContent-Length: 0\r\n')

    environ = recorder.environ
    assert type(environ) is dict
    assert environ['SERVER_NAME'] == 'plant.example'
    assert environ['SERVER_PORT'] == '8080'
    assert environ['HTTP_HOST'] == 'plant.example:8080'
    assert environ['SERVER_PROTOCOL'] == 'HTTP/1.1'
    assert environ['REMOTE_ADDR'] == '127.0.0.1'
    assert environ['CONTENT_TYPE'] == 'text/plain'
    assert environ['CONTENT_LENGTH'] == '0'
    assert environ['wsgi.url_scheme'] == 'http'
    assert environ['wsgi.version'] == (1, 0)
    assert (environ['wsgi.multithread'], environ['wsgi.multiprocess']) == (True, False)


async def test_without_a_host_header_the_server_is_its_own_address(recorder):
    async with mounted(recorder) as client:
        await raw(client, version=b'1.0')
        port = str(client.port)

    environ = recorder.environ
    assert (environ['SERVER_NAME'], environ['SERVER_PORT']) == ('127.0.0.1', port)
    assert environ['SERVER_PROTOCOL'] == 'HTTP/1.0'
    assert 'HTTP_HOST' not in environ


@pytest.mark.parametrize('host', [b'a:b:c', b'a:', b'a:x', b'a'])
async def test_the_port_of_the_server_is_a_number(recorder, host):
    """Whatever the client writes into `Host`: applications take it for one."""
    async with mounted(recorder) as client:
        await sent(
            client, b'GET /site/ HTTP/1.1\r\nHost: ' + host + b'\r\nConnection: close\r\n\r\n'
        )

    assert recorder.environ['SERVER_PORT'] == '80'
    assert recorder.environ['HTTP_HOST'] == host.decode()


async def test_headers_that_come_twice_are_joined(recorder):
    async with mounted(recorder) as client:
        await raw(client, headers=b'X-A: 1\r\nX-A: 2\r\nCookie: a=1\r\nCookie: b=2\r\n')

    assert recorder.environ['HTTP_X_A'] == '1,2'
    assert recorder.environ['HTTP_COOKIE'] == 'a=1; b=2'


async def test_header_bytes_stay_what_they_are(recorder):
    async with mounted(recorder) as client:
        await raw(client, headers=b'X-Utf: \xc3\xa4\r\nX-Latin: \xe4\r\n')

    assert recorder.environ['HTTP_X_UTF'] == '\xc3\xa4'
    assert recorder.environ['HTTP_X_LATIN'] == '\xe4'


async def test_no_header_passes_for_another(recorder):
    """`X_Real_Ip` would have the same name in the environment as `X-Real-Ip`."""
    async with mounted(recorder) as client:
        await raw(client, headers=b'X_Real_Ip: 1.1.1.1\r\n')

    assert 'HTTP_X_REAL_IP' not in recorder.environ


HEADERS = {
    'X-Forwarded-For': '203.0.113.7',
    'X-Forwarded-Proto': 'https',
    'X-Forwarded-Host': 'plant.example',
    'X-Forwarded-Prefix': '/gate/%C3%A4',
}


async def test_a_trusted_proxy_is_believed(recorder):
    async with mounted(recorder, prefix=None) as client:
        await client.get('/plant/site/x', headers=HEADERS)

    environ = recorder.environ
    assert environ['REMOTE_ADDR'] == '203.0.113.7'
    assert environ['wsgi.url_scheme'] == 'https'
    assert environ['HTTP_HOST'] == environ['SERVER_NAME'] == 'plant.example'
    assert environ['SERVER_PORT'] == '443'
    assert environ['SCRIPT_NAME'] == '/gate/\xc3\xa4/plant/site'
    assert environ['PATH_INFO'] == '/x'


@pytest.mark.parametrize('proxies', ['10.0.0.0/8', '127.0.0.0/8'])
async def test_what_proxies_say_is_applied_once_or_not_at_all(recorder, proxies):
    """A ProxyFix in the application finds nothing that it could believe or apply again."""
    async with mounted(recorder, '--trusted-proxies', proxies) as client:
        await client.get('/site/x', headers={**HEADERS, 'X-Forwarded-Port': '99'})

    environ = recorder.environ
    assert not [name for name in environ if 'FORWARDED' in name]
    if proxies == '10.0.0.0/8':
        assert environ['REMOTE_ADDR'] == '127.0.0.1'
        assert environ['wsgi.url_scheme'] == 'http'
        assert environ['SCRIPT_NAME'] == '/site'


async def test_the_root_path_stands_before_the_prefix(recorder):
    async with mounted(recorder, '--root-path', '/gate') as client:
        await client.get('/site/x')

    assert recorder.environ['SCRIPT_NAME'] == '/gate/site'
    assert recorder.environ['PATH_INFO'] == '/x'


async def test_redirects_carry_the_root_path_once():
    def app(environ, start_response):
        where = environ['QUERY_STRING'] or environ['SCRIPT_NAME'] + '/x'
        start_response('302 Found', [('Location', where), ('Set-Cookie', 'a=1; Path=/site')])
        return [b'']

    async with mounted(app, '--root-path', '/gate') as client:
        url = URL('/site/')
        right = await client.get(url, allow_redirects=False)
        hard_coded = await client.get(url.with_query('/site/y'), allow_redirects=False)

    assert right.headers['Location'] == '/gate/site/x'
    assert right.headers['Set-Cookie'] == 'a=1; Path=/gate/site'
    assert hard_coded.headers['Location'] == '/gate/site/y'


async def test_errors_of_the_application_are_lines_of_our_log(caplog):
    def app(environ, start_response):
        print('first\nsecond', file=environ['wsgi.errors'])
        environ['wsgi.errors'].writelines(['thi', 'rd'])
        environ['wsgi.errors'].flush()
        start_response('200 OK', [])
        return []

    async with mounted(app) as client:
        await client.get('/site/')

    lines = [r.getMessage() for r in caplog.records if r.name.endswith('wsgi.environ')]
    assert lines == ['first', 'second', 'third']
