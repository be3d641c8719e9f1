"""The port: what every back end does, and the promises that it keeps."""

from __future__ import annotations

import abc
import io
from functools import partial
from typing import IO, Any, BinaryIO, cast

from service_scaffold.storage import paths
from service_scaffold.storage.files import TextFile
from service_scaffold.storage.modes import Mode


class Backend(abc.ABC):
    """Files under relative paths with slashes, as in `reports/2026/today.txt`.

    All calls block, and may be made from any thread: in a coroutine, use `asyncio.to_thread`.

    A path that leaves the storage (absolute, `..`, a symbolic link out of it), or has a backslash
    or a NUL in it, is a PermissionError. It may have 1024 bytes. Errors are those of Python's own
    files: FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError,
    PermissionError; a back end that cannot be reached is a `StorageError`, which is an OSError as
    well.
    """

    def open(
        self,
        path: paths.Path,
        mode: str = 'r',
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Open a file, as Python's own `open` does; use it in a `with` block.

        What was written with `w` or `x` becomes the file when it is closed, all at once: nobody
        ever reads half of it. An exception in the `with` block leaves the file as it was.
        Directories on the way are made.

        Args:
            mode: `r`, `w`, `a`, `x`, each with `+` and `b` if you like. `x` claims the name at
                once, for one of several that try.
            encoding: Of a text, default UTF-8 everywhere.
            errors, newline: As in Python's `open`.

        Raises:
            ValueError: The mode is none, or a binary one was given an encoding.
            LookupError: There is no such encoding.
            OSError: See `Backend`.
        """
        parsed = Mode.parse(mode)
        if not parsed.is_text and (encoding, errors, newline) != (None, None, None):
            raise ValueError('a binary file has no encoding and no newlines')
        as_text = partial(TextFile, encoding=encoding or 'utf-8', errors=errors, newline=newline)
        as_text(io.BytesIO()).close()  # says what is wrong with them before anything is opened
        cleaned = paths.clean(path)
        if not cleaned:
            raise paths.is_directory(str(path))
        file = cast(BinaryIO, self._open(cleaned, parsed))
        if not parsed.is_text:
            return file
        opened = as_text(file)
        opened.mode = mode
        return opened

    def exists(self, path: paths.Path) -> bool:
        """Tell whether there is a file or a directory.

        Raises:
            OSError: See `Backend`.
        """
        cleaned = paths.clean(path)
        return not cleaned or self._exists(cleaned)

    def delete(self, path: paths.Path) -> None:
        """Delete a file, or an empty directory.

        Raises:
            OSError: See `Backend`; a directory that holds something is an OSError, too.
        """
        cleaned = paths.clean(path)
        if not cleaned:
            raise paths.refused('The root of a storage stays', str(path))
        self._delete(cleaned)

    def listdir(self, path: paths.Path = '') -> list[str]:
        """Return the names of files and directories in a directory, sorted.

        Args:
            path: Default the root, which is always there.

        Raises:
            OSError: See `Backend`.
        """
        return sorted(self._listdir(paths.clean(path)))

    @abc.abstractmethod
    def _open(self, path: str, mode: Mode) -> io.BufferedIOBase: ...

    @abc.abstractmethod
    def _exists(self, path: str) -> bool: ...

    @abc.abstractmethod
    def _delete(self, path: str) -> None: ...

    @abc.abstractmethod
    def _listdir(self, path: str) -> list[str]: ...
