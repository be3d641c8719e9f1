"""Files in S3."""

import http.server
import itertools
import socket
import sys
import threading

import msgspec
import pytest

from service_scaffold import errors, storage


@pytest.fixture
def files(s3_settings):
    return storage.S3Backend(s3_settings)


def test_objects_are_what_others_see(files, s3_settings, s3_client):
    with files.open('a/b.txt', 'w') as file:
        file.write('text')
    found = s3_client.get_object(Bucket='files', Key=f'{s3_settings.prefix}/a/b.txt')
    assert found['Body'].read() == b'text'

    s3_client.put_object(Bucket='files', Key=f'{s3_settings.prefix}/a/c', Body=b'theirs')
    s3_client.put_object(Bucket='files', Key=f'{s3_settings.prefix}yz/a', Body=b'')
    s3_client.put_object(Bucket='files', Key=f'{s3_settings.prefix}/marker/', Body=b'')

    assert files.open('a/c').read() == 'theirs'
    assert files.listdir() == ['a', 'marker']
    assert files.listdir('marker') == []
    files.delete('marker')
    assert files.listdir() == ['a']


def test_a_file_may_be_larger_than_memory_should_hold(files):
    block = bytes(range(256)) * 2**12
    with files.open('large', 'wb') as file:
        for _ in range(9):
            file.write(block)

    with files.open('large', 'rb') as file:
        assert all(file.read(2**20) == block for _ in range(9))
        assert file.read() == b''


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(files, s3_settings, s3_client):
    """Large ones come in parts, and the parts would not fit."""
    key = {'Bucket': 'files', 'Key': f'{s3_settings.prefix}/large'}
    s3_client.put_object(**key, Body=b'x' * 2**24)
    parts = itertools.count()

    def replace(**_):
        if next(parts) == 1:
            s3_client.put_object(**key, Body=b'y' * (2**24 - 1))

    files._client.meta.events.register('before-call.s3.GetObject', replace)

    with files.open('large', 'rb') as file:
        assert file.read() == b'y' * (2**24 - 1)


class _Careless(http.server.BaseHTTPRequestHandler):
    """Has every file, half of each, and heeds no conditions."""

    def do_HEAD(self):
        self.answer(1000)

    def do_GET(self):
        self.answer(1000)
        self.wfile.write(b'half')

    def do_PUT(self):
        self.rfile.read(int(self.headers['Content-Length']))
        self.server.written += 1
        self.answer(0)

    def answer(self, size):
        self.send_response(200)
        self.send_header('ETag', '"x"')
        self.send_header('Content-Length', str(size))
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def careless():
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Careless) as server:
        server.written = 0
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server
        server.shutdown()
        serving.join()


def test_an_answer_that_breaks_off_is_an_error_of_the_storage(s3_settings, careless):
    url = f'http://127.0.0.1:{careless.server_port}'
    files = storage.S3Backend(msgspec.structs.replace(s3_settings, endpoint_url=url))

    with pytest.raises(storage.StorageError, match=r"'files'.*cannot be used: 4 read"):
        files.open('a')


def test_a_server_that_heeds_no_conditions_loses_no_file_to_x(s3_settings, careless):
    url = f'http://127.0.0.1:{careless.server_port}'
    files = storage.S3Backend(msgspec.structs.replace(s3_settings, endpoint_url=url))

    with pytest.raises(FileExistsError):
        files.open('a', 'x')
    assert careless.written == 0


def test_more_names_than_fit_in_one_answer_are_listed(files, monkeypatch):
    monkeypatch.setenv('MOTO_S3_DEFAULT_MAX_KEYS', '2')  # of the server
    for number in range(5):
        files.open(f'{number}/a', 'w').close()

    assert files.listdir() == ['0', '1', '2', '3', '4']


def test_an_unknown_bucket_is_an_error_that_names_it(s3_settings):
    files = storage.S3Backend(msgspec.structs.replace(s3_settings, bucket='no-such-bucket'))

    for call in (lambda: files.open('a', 'w').close(), files.listdir, lambda: files.exists('a')):
        with pytest.raises(storage.StorageError, match='no-such-bucket') as caught:
            call()
        assert isinstance(caught.value, OSError)


@pytest.fixture
def closed_port():
    with socket.create_server(('127.0.0.1', 0)) as bound:
        return bound.getsockname()[1]


def test_a_server_that_is_away_is_an_error_without_credentials(s3_settings, closed_port):
    url = f'http://127.0.0.1:{closed_port}'
    files = storage.S3Backend(msgspec.structs.replace(s3_settings, endpoint_url=url))

    with pytest.raises(storage.StorageError, match='cannot be used') as caught:
        files.exists('a')

    assert 'hidden' not in f'{caught.value!r} {files!r} {s3_settings!r}'


def test_a_failing_upload_says_so_when_the_file_is_closed(s3_settings, closed_port):
    url = f'http://127.0.0.1:{closed_port}'
    files = storage.S3Backend(msgspec.structs.replace(s3_settings, endpoint_url=url))

    with pytest.raises(storage.StorageError), files.open('a', 'w') as file:
        file.write('text')


def test_a_prefix_leads_nowhere_else(s3_settings):
    with pytest.raises(ValueError, match='prefix'):
        msgspec.structs.replace(s3_settings, prefix='../other')


def test_without_the_extra_it_says_what_to_install(s3_settings, monkeypatch):
    monkeypatch.setitem(sys.modules, 'boto3', None)

    with pytest.raises(errors.ConfigError, match=r'service-scaffold\[s3\]'):
        storage.S3Backend(s3_settings)
