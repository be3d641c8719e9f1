"""`STORAGE` and what it makes."""

import json
import subprocess
import sys

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from service_scaffold import errors, options, service, storage


def make(monkeypatch, value=None, *args):
    monkeypatch.delenv('STORAGE', raising=False)
    if value is not None:
        monkeypatch.setenv('STORAGE', value if isinstance(value, str) else json.dumps(value))
    app = service.create_app('plant', raw_args=list(args))
    storage.setup(app)
    return storage.get_storage(app)


def test_without_storage_there_is_none(monkeypatch):
    storages = make(monkeypatch)

    assert storages.default is None
    assert dict(storages) == {}
    assert not storages


def test_one_back_end_is_the_default(monkeypatch, tmp_path):
    local = {'type': 'local', 'local_path': str(tmp_path), 'mount_point': '/no/such/directory'}
    storages = make(monkeypatch, local)
    with storages.default.open('a/b.txt', 'w') as file:
        file.write('text')

    assert (tmp_path / 'a' / 'b.txt').read_text() == 'text'
    assert storages['default'] is storages.default


def test_several_are_found_by_name(monkeypatch, tmp_path):
    disk = {'type': 'local', 'local_path': str(tmp_path)}
    storages = make(monkeypatch, {'disk': disk, 'memory': {'type': 'memory'}})
    storages['disk'].open('a', 'w').close()

    assert list(storages) == ['disk', 'memory']
    assert (tmp_path / 'a').exists()
    assert storages['memory'] is storages['memory']
    assert not storages['memory'].exists('a')
    with pytest.raises(KeyError, match="no storage 'other', but disk, memory"):
        storages['other']
    with pytest.raises(errors.ConfigError, match='disk, memory'):
        storages.default  # noqa: B018  # it is the access that raises


def test_the_only_one_is_the_default_whatever_its_name(monkeypatch):
    storages = make(monkeypatch, {'a': {'type': 'memory'}})

    assert storages.default is storages['a']


def test_of_several_the_default_is_the_one_of_that_name(monkeypatch):
    memory = {'type': 'memory'}
    storages = make(monkeypatch, {'a': memory, 'default': memory})

    assert storages.default is storages['default']


def test_the_option_outranks_the_environment(monkeypatch):
    found = make(monkeypatch, {'a': {'type': 'memory'}}, '--storage', '{"type": "memory"}')

    assert list(found) == ['default']


WRONG = [
    '{',
    'null',
    '[]',
    '"local"',
    '{"a": 1}',
    '{"type": "nfs"}',
    '{"type": 3}',
    '{"a": {"local_path": "/x"}}',
    '{"type": "local"}',
    '{"type": "local", "local_path": 3}',
    '{"type": "local", "local_path": "/x", "lokal": 1}',
    '{"type": "s3", "secret_access_key": "hidden"}',
    '{"type": "s3", "bucket": 5, "secret_access_key": "hidden"}',
    '{"secret_access_key": "hidden"',
    '{"type": {"type": "s3", "secret_access_key": "hidden"}}',
    '{"type": "local", "local_path": ""}',
    '{"type": "s3", "bucket": ""}',
    '{"type": "s3", "bucket": "b", "prefix": "../c"}',
    '{"type": "s3", "bucket": "b", "endpoint_url": "minio:9000"}',
    '{"type": "s3", "bucket": "b", "secret_access_key": "hidden"}',
]


@pytest.mark.parametrize('value', WRONG)
def test_what_is_wrong_is_a_usage_error(monkeypatch, capsys, value):
    """It names the variable, and shows no credentials."""
    with pytest.raises(SystemExit) as caught:
        make(monkeypatch, value)

    told = capsys.readouterr().err
    assert caught.value.code == 2
    assert 'STORAGE' in told
    assert 'hidden' not in told


@pytest.mark.parametrize(
    ('value', 'told'),
    [
        ('{"type": "local", "locl_path": "/x"}', "'locl_path'; did you mean 'local_path'?"),
        ('{"a": {"type": "memory", "x": 1}}', "storage 'a' of type memory: unknown setting 'x'"),
        ('{"a": {"type": "memory"}, "a": {"type": "memory"}}', "'a' is there twice"),
        ('{"type": "s3", "bucket": "b", "prefix": "/c"}', 'prefix: A path in a storage is relat'),
        ('{"type": "s3", "bucket": "b", "endpoint_url": "minio:9000"}', 'begins with http:// or'),
    ],
)
def test_what_is_wrong_is_said(monkeypatch, capsys, value, told):
    with pytest.raises(SystemExit):
        make(monkeypatch, value)

    assert told in ' '.join(capsys.readouterr().err.split())


def test_a_missing_package_is_said_at_the_start(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'boto3', None)
    with pytest.raises(SystemExit) as caught:
        make(monkeypatch, {'type': 's3', 'bucket': 'b'})

    assert caught.value.code == 2
    assert 'pip install service-scaffold[s3]' in ' '.join(capsys.readouterr().err.split())


def test_an_empty_variable_is_none(monkeypatch):
    assert make(monkeypatch, '').default is None


def test_a_service_ends_with_2(tmp_path):
    code = "from service_scaffold import service; service.create_app('plant', raw_args=[])"
    done = subprocess.run(
        [sys.executable, '-c', code],
        env={'STORAGE': '{"type": "tape"}', 'PATH': ''},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert done.returncode == 2
    assert "STORAGE: storage has the unknown type 'tape'; one of local, memory, s3" in done.stderr


def test_credentials_are_not_printed(monkeypatch, capsys):
    given = {'type': 's3', 'bucket': 'b', 'access_key_id': 'key', 'secret_access_key': 'hidden'}
    with pytest.raises(SystemExit):
        make(monkeypatch, given, '--print-config')

    printed = capsys.readouterr().out
    assert 'storage = "***"' in printed
    assert 'hidden' not in printed


def test_a_keyword_may_be_an_object():
    parser = service.create_parser('plant')
    options.apply_keywords(parser, {'storage': {'type': 'memory'}})
    app = service.create_app(parser=parser, raw_args=[])
    storage.setup(app)

    assert isinstance(storage.get_storage(app).default, storage.MemoryBackend)


def test_a_wrong_keyword_is_said_at_once():
    parser = service.create_parser('plant')
    options.apply_keywords(parser, {'storage': {'type': 'tape'}})

    with pytest.raises(errors.ConfigError, match='tape'):
        storage.setup(service.create_app(parser=parser, raw_args=[]))


def test_setup_may_be_called_twice_and_must_be_called(monkeypatch):
    app = web.Application()
    with pytest.raises(KeyError, match='Storages'):
        storage.get_storage(app)
    storage.setup(app)
    found = storage.get_storage(app)
    storage.setup(app)

    assert storage.get_storage(app) is found
    assert found.default is None


async def test_handlers_find_it_with_their_request(monkeypatch):
    monkeypatch.setenv('STORAGE', '{"type": "memory"}')
    app = service.create_app('plant', raw_args=[])
    storage.setup(app)

    async def show(request):
        files = storage.get_storage(request).default
        return web.json_response(files is storage.get_storage(app).default)

    app.router.add_get('/', show)
    async with TestClient(TestServer(app)) as client:
        assert await (await client.get('/')).json() is True
