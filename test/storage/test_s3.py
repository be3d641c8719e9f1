"""Files in S3."""

import socket
import sys

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


def test_a_file_may_be_larger_than_memory_should_hold(files):
    block = bytes(range(256)) * 2**12
    with files.open('large', 'wb') as file:
        for _ in range(9):
            file.write(block)

    with files.open('large', 'rb') as file:
        assert all(file.read(2**20) == block for _ in range(9))
        assert file.read() == b''


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
    with pytest.raises(PermissionError):
        storage.S3Backend(msgspec.structs.replace(s3_settings, prefix='../other'))


def test_without_the_extra_it_says_what_to_install(s3_settings, monkeypatch):
    monkeypatch.setitem(sys.modules, 'boto3', None)

    with pytest.raises(errors.ConfigError, match=r'service-scaffold\[s3\]'):
        storage.S3Backend(s3_settings)
