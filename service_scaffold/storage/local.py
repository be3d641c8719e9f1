"""Files in a directory of this machine."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from functools import partial
from typing import BinaryIO, cast

from service_scaffold.storage import paths, unfinished
from service_scaffold.storage.base import Backend
from service_scaffold.storage.files import Draft
from service_scaffold.storage.modes import Mode

_MANY = 10_000
"""How many directories are remembered as swept."""


class LocalBackend(Backend):
    """Files below a directory, which is made with the first of them.

    Symbolic links are followed as long as they stay inside. Files opened with `a` or `r+` change in
    place, as they are written.

    Args:
        local_path: The directory.
        mount_point: Used instead, if it exists now.
    """

    def __init__(self, local_path: str, mount_point: str | None = None) -> None:
        mounted = mount_point is not None and os.path.exists(mount_point)
        self.root = os.path.abspath(cast(str, mount_point if mounted else local_path))
        self._swept: set[str] = set()

    def __repr__(self) -> str:
        return f'LocalBackend({self.root!r})'

    def _open(self, path: str, mode: Mode) -> io.BufferedIOBase:
        real = self._real(path)
        if mode.kind != 'r':
            try:
                os.makedirs(os.path.dirname(real), exist_ok=True)
            except FileExistsError:
                raise paths.is_file(path) from None
        if mode.kind in ('w', 'x'):
            return self._draft(path, real, mode)
        return cast(io.BufferedIOBase, open(real, mode.binary))

    def _draft(self, path: str, real: str, mode: Mode) -> Draft:
        if os.path.isdir(real):
            raise paths.taken(path) if mode.kind == 'x' else paths.is_directory(path)
        if os.path.exists(real) and not os.access(real, os.W_OK):
            raise paths.refused('The file is write-protected', path)  # replacing it would work
        buffer = self._unfinished(os.path.dirname(real))
        undo = partial(_remove, buffer.name)
        try:
            if mode.kind == 'x':
                # The name is ours from now on, as it would be with an open file.
                os.close(os.open(real, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
                undo = partial(_remove, buffer.name, real)
            with contextlib.suppress(FileNotFoundError):  # a new file has the umask's mode
                os.fchmod(buffer.fileno(), os.stat(real).st_mode & 0o7777)
            return Draft(path, mode, buffer, partial(_replace, buffer.name, real), undo)
        except BaseException:
            buffer.close()
            undo()
            raise

    def _unfinished(self, directory: str) -> BinaryIO:
        file = unfinished.create(directory)
        if directory not in self._swept:
            if len(self._swept) >= _MANY:
                self._swept.clear()
            self._swept.add(directory)
            unfinished.sweep(directory)
        return file

    def _exists(self, path: str) -> bool:
        return os.path.exists(self._real(path))

    def _delete(self, path: str) -> None:
        directory, _, name = path.rpartition('/')
        # Of a symbolic link it is the link that goes, wherever it leads.
        target = os.path.join(self._real(directory), name)
        if not os.path.isdir(target) or os.path.islink(target):
            os.unlink(target)
            return
        try:
            os.rmdir(target)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            unfinished.sweep(target)  # it may hold nothing that anybody sees
            os.rmdir(target)

    def _listdir(self, path: str) -> list[str]:
        try:
            names = os.listdir(self._real(path))
        except FileNotFoundError:
            if path:
                raise
            return []
        return [name for name in names if not name.startswith(paths.TEMPORARY)]

    def _real(self, path: str) -> str:
        root = os.path.realpath(self.root)
        real = os.path.realpath(os.path.join(root, path))
        if real != root and not real.startswith(os.path.join(root, '')):
            raise paths.refused('A symbolic link leads out of the storage', path)
        return real


def _replace(temporary: str, real: str, buffer: BinaryIO) -> None:
    os.fsync(buffer.fileno())  # else a power failure could leave the new name with nothing in it
    os.replace(temporary, real)


def _remove(*files: str) -> None:
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file)
