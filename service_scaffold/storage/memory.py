"""Files in this process, for tests and for trying things out."""

from __future__ import annotations

import io
import threading
from functools import partial
from typing import BinaryIO, cast

from service_scaffold.storage import paths
from service_scaffold.storage.base import Backend
from service_scaffold.storage.files import Draft
from service_scaffold.storage.modes import Mode


class MemoryBackend(Backend):
    """Files in a dictionary. Directories are there as long as a file is in them."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return 'MemoryBackend()'

    def _open(self, path: str, mode: Mode) -> io.BufferedIOBase:
        with self._lock:
            self._check(path, mode)
            if mode.kind == 'x':
                self._files[path] = b''
            data = b'' if mode.kind in ('w', 'x') else self._files.get(path, b'')
            buffer = cast(BinaryIO, io.BytesIO(data))
            commit = partial(self._commit, path, mode, len(data))
            discard = partial(self._discard, path, mode)
        return Draft(path, mode, buffer, commit, discard)

    def _check(self, path: str, mode: Mode) -> None:
        if self._is_directory(path):
            raise paths.taken(path) if mode.kind == 'x' else paths.is_directory(path)
        self._check_parents(path)
        if mode.kind == 'x' and path in self._files:
            raise paths.taken(path)
        if mode.kind == 'r' and path not in self._files:
            raise paths.missing(path)

    def _check_parents(self, path: str) -> None:
        parts = path.split('/')
        for count in range(1, len(parts)):
            if '/'.join(parts[:count]) in self._files:
                raise paths.is_file(path)

    def _commit(self, path: str, mode: Mode, before: int, buffer: BinaryIO) -> None:
        buffer.seek(0)
        data = buffer.read()
        with self._lock:
            now = self._files.get(path, b'')
            if mode.kind == 'a' and len(data) >= before:
                data = now + data[before:]  # what others have appended meanwhile stays
            self._files[path] = data

    def _discard(self, path: str, mode: Mode) -> None:
        if mode.kind == 'x':
            with self._lock:
                self._files.pop(path, None)

    def _exists(self, path: str) -> bool:
        with self._lock:
            return path in self._files or self._is_directory(path)

    def _delete(self, path: str) -> None:
        with self._lock:
            if self._is_directory(path):
                raise paths.not_empty(path)
            self._check_parents(path)
            if path not in self._files:
                raise paths.missing(path)
            del self._files[path]

    def _listdir(self, path: str) -> list[str]:
        with self._lock:
            if path in self._files:
                raise paths.is_file(path)
            self._check_parents(path)
            if path and not self._is_directory(path):
                raise paths.missing(path)
            below = f'{path}/' if path else ''
            found = (file[len(below) :] for file in self._files if file.startswith(below))
            return list({name.partition('/')[0] for name in found})

    def _is_directory(self, path: str) -> bool:
        return any(file.startswith(f'{path}/') for file in self._files)
