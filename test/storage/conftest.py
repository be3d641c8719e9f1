"""One back end of each type; S3 is a server in this process, on a free port of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from service_scaffold import storage
from service_scaffold.storage import settings

CREDENTIALS = {'access_key_id': 'key', 'secret_access_key': 'hidden', 'region': 'us-east-1'}


@pytest.fixture(scope='session')
def s3_url() -> Iterator[str]:
    """Where an S3 is served."""
    server = pytest.importorskip('moto.server', reason='moto[s3] and flask-cors are not installed')
    threaded = server.ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
    threaded.start()
    host, port = threaded.get_host_and_port()
    yield f'http://{host}:{port}'
    threaded.stop()


@pytest.fixture(scope='session')
def s3_client(s3_url: str) -> Any:
    """A client of the library itself; there is one bucket, `files`."""
    import boto3

    client = boto3.session.Session().client(
        's3',
        endpoint_url=s3_url,
        region_name=CREDENTIALS['region'],
        aws_access_key_id=CREDENTIALS['access_key_id'],
        aws_secret_access_key=CREDENTIALS['secret_access_key'],
    )
    client.create_bucket(Bucket='files')
    return client


@pytest.fixture
def s3_settings(s3_client: Any, s3_url: str, unique: str) -> settings.S3:
    """A place of its own in the bucket."""
    return settings.S3(bucket='files', prefix=f'{unique}/x', endpoint_url=s3_url, **CREDENTIALS)


@pytest.fixture(params=['local', 'memory', 's3'])
def backend(request: pytest.FixtureRequest, tmp_path: Any) -> storage.Backend:
    """A back end of each type, with nothing in it."""
    if request.param == 'local':
        return storage.LocalBackend(str(tmp_path / 'files'))
    if request.param == 'memory':
        return storage.MemoryBackend()
    return storage.S3Backend(request.getfixturevalue('s3_settings'))
