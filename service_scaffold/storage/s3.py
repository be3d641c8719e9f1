"""Files in a bucket of S3, or of anything that speaks its language."""

from __future__ import annotations

import io
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO, cast

from service_scaffold import errors, options
from service_scaffold.storage import paths
from service_scaffold.storage.base import Backend
from service_scaffold.storage.files import Draft
from service_scaffold.storage.modes import Mode
from service_scaffold.storage.settings import S3, check_installed

IN_MEMORY_BYTES = 2**23
"""A file that is open and larger than this is on the disk meanwhile."""

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
ATTEMPTS = 4
_MISSING = frozenset({'404', 'NoSuchKey', 'NotFound'})
_REFUSED = frozenset({'403', 'AccessDenied', 'InvalidAccessKeyId', 'SignatureDoesNotMatch'})
_TAKEN = frozenset({'412', 'PreconditionFailed', '409', 'ConditionalRequestConflict'})


class S3Backend(Backend):
    """Files in a bucket. Directories are there as long as an object is in them.

    A file that is opened is fetched whole, and written whole when it is closed, with `a` and `r+`
    too: of two who append at the same time one wins.

    Args:
        settings: Where the bucket is.

    Raises:
        ConfigError: The extra `s3` is not installed.
    """

    def __init__(self, settings: S3) -> None:
        check_installed()
        self._settings = settings
        prefix = paths.clean(settings.prefix)
        self._prefix = f'{prefix}/' if prefix else ''
        self._lock = threading.Lock()
        self._made: Any = None

    def __repr__(self) -> str:
        return f'S3Backend({self._settings.bucket!r}, prefix={self._settings.prefix!r})'

    def _open(self, path: str, mode: Mode) -> io.BufferedIOBase:
        if mode.kind == 'x':
            self._claim(path)
        spool = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115  # the draft closes it
        buffer = cast(BinaryIO, spool)
        try:
            if mode.kind in ('r', 'a'):
                self._fetch(path, mode, buffer)
        except BaseException:
            buffer.close()
            raise
        undo = partial(self._unclaim, path, mode)
        return Draft(path, mode, buffer, partial(self._store, path), undo)

    def _fetch(self, path: str, mode: Mode, buffer: BinaryIO) -> None:
        try:
            with self._calling(path):
                self._download(path, buffer)
        except FileNotFoundError:
            if self._is_directory(path):
                raise paths.is_directory(path) from None
            if mode.kind == 'r':
                raise

    def _download(self, path: str, buffer: BinaryIO) -> None:
        from s3transfer.exceptions import S3DownloadFailedError

        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                self._client.download_fileobj(
                    self._settings.bucket, self._key(path), buffer, Config=self._transfer
                )
            except S3DownloadFailedError:  # it was replaced meanwhile; large ones come in parts
                if not attempts_left:
                    raise
                buffer.seek(0)
                buffer.truncate()
            else:
                return

    def _store(self, path: str, buffer: BinaryIO) -> None:
        buffer.seek(0)
        with self._calling(path):
            self._client.upload_fileobj(
                buffer, self._settings.bucket, self._key(path), Config=self._transfer
            )

    def _claim(self, path: str) -> None:
        if self._is_file(path):  # not every server heeds the condition
            raise paths.taken(path)
        with self._calling(path):
            self._client.put_object(**self._at(path), Body=b'', IfNoneMatch='*')

    def _unclaim(self, path: str, mode: Mode) -> None:
        if mode.kind == 'x':
            with self._calling(path):
                self._client.delete_object(**self._at(path))

    def _exists(self, path: str) -> bool:
        return self._is_file(path) or self._is_directory(path)

    def _delete(self, path: str) -> None:
        if not self._is_file(path):
            if not self._is_directory(path):
                raise paths.missing(path)
            if self._listdir(path):
                raise paths.not_empty(path)
            path += '/'  # the marker of an empty one
        with self._calling(path):
            self._client.delete_object(**self._at(path))

    def _listdir(self, path: str) -> list[str]:
        below = self._key(path) + '/' if path else self._prefix
        names: set[str] = set()
        found = False
        with self._calling(path):
            pages = self._client.get_paginator('list_objects_v2').paginate(
                Bucket=self._settings.bucket, Prefix=below, Delimiter='/'
            )
            for page in pages:
                keys = [entry['Key'] for entry in page.get('Contents', ())]
                keys += [entry['Prefix'] for entry in page.get('CommonPrefixes', ())]
                found = found or bool(keys)
                # Empty for the markers that consoles make for directories.
                names.update(filter(None, (key[len(below) :].rstrip('/') for key in keys)))
        if path and not found:
            raise paths.is_file(path) if self._is_file(path) else paths.missing(path)
        return list(names)

    def _is_file(self, path: str) -> bool:
        try:
            with self._calling(path):
                self._client.head_object(**self._at(path))
        except FileNotFoundError:
            return False
        return True

    def _is_directory(self, path: str) -> bool:
        with self._calling(path):
            page = self._client.list_objects_v2(
                Bucket=self._settings.bucket, Prefix=f'{self._key(path)}/', MaxKeys=1
            )
        return bool(page.get('Contents'))

    def _key(self, path: str) -> str:
        return self._prefix + path

    def _at(self, path: str) -> dict[str, str]:
        return {'Bucket': self._settings.bucket, 'Key': self._key(path)}

    @property
    def _transfer(self) -> Any:
        from boto3.s3.transfer import TransferConfig

        return TransferConfig(use_threads=False)  # else each call would start some

    @property
    def _client(self) -> Any:
        with self._lock:  # clients may be shared by threads, but not made by several at once
            if self._made is None:
                self._made = self._connect()
            return self._made

    def _connect(self) -> Any:
        import boto3
        from botocore.config import Config

        given = self._settings
        settings: dict[str, Any] = {
            'connect_timeout': CONNECT_TIMEOUT_S,
            'read_timeout': READ_TIMEOUT_S,
            'retries': {'total_max_attempts': ATTEMPTS, 'mode': 'standard'},
        }
        if given.endpoint_url is not None:
            # What all who speak S3 understand, and not only AWS.
            settings['s3'] = {'addressing_style': 'path'}
            settings['request_checksum_calculation'] = 'when_required'
            settings['response_checksum_validation'] = 'when_required'
        return boto3.session.Session().client(
            's3',
            endpoint_url=given.endpoint_url,
            region_name=given.region,
            aws_access_key_id=given.access_key_id,
            aws_secret_access_key=given.secret_access_key,
            aws_session_token=given.session_token,
            config=Config(**settings),
        )

    @contextmanager
    def _calling(self, path: str) -> Iterator[None]:
        """Turn the errors of the library into those of files."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
        from s3transfer import exceptions as transfers

        try:
            yield
        except ClientError as error:
            raise self._translated(path, error.response.get('Error', {})) from error
        except transfers.RetriesExceededError as error:
            raise self._unusable(error.last_exception) from error
        except (BotoCoreError, Boto3Error, transfers.S3DownloadFailedError) as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> errors.StorageError:
        return errors.StorageError(f'{self!r} cannot be used: {options.mask_text(str(error))}')

    def _translated(self, path: str, error: dict[str, str]) -> OSError:
        code, message = error.get('Code', ''), error.get('Message', '')
        if code in _MISSING:
            return paths.missing(path)
        if code in _REFUSED:
            return paths.refused(f'{self!r} refuses: {code}', path)
        if code in _TAKEN:
            return paths.taken(path)
        return errors.StorageError(f'{self!r}: {code}: {options.mask_text(message)}')
