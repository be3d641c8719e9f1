"""Paths in a storage: relative, with slashes, and never out of it."""

from __future__ import annotations

import errno
import os

TEMPORARY = '.~'
"""How the names of files begin that are still being written; nobody sees or opens them."""

MAX_BYTES = 1024
"""How long a path may be: S3 takes no longer ones."""

Path = str | os.PathLike[str]


def clean(path: Path) -> str:
    """Return `path` without empty and `.` parts; '' is the root.

    Raises:
        PermissionError: It is absolute, or has `..`, a backslash, a NUL or a reserved name in it,
            or what UTF-8 cannot express.
        OSError: It is too long.
        TypeError: It is not a text.
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f'a path in a storage is a text, not {type(text).__name__}')
    if text.startswith('/'):
        raise refused('A path in a storage is relative', text)
    if '\\' in text or '\0' in text:
        raise refused('A path in a storage has no backslash and no NUL', text)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise refused('A path in a storage can be written in UTF-8', text) from None
    if size > MAX_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), f'{text[:40]}…')
    parts = [part for part in text.split('/') if part not in ('', '.')]
    if '..' in parts:
        raise refused('A path in a storage has no ..', text)
    if any(part.startswith(TEMPORARY) for part in parts):
        raise refused(f'Names that begin with {TEMPORARY} are reserved', text)
    return '/'.join(parts)


def refused(reason: str, path: str) -> PermissionError:
    """Return the error for a path that must not be used."""
    return PermissionError(errno.EACCES, reason, path)


def missing(path: str) -> FileNotFoundError:
    """Return the error for a path where nothing is."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def taken(path: str) -> FileExistsError:
    """Return the error for a path where something is already."""
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)


def is_directory(path: str) -> IsADirectoryError:
    """Return the error for a directory where a file is needed."""
    return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)


def is_file(path: str) -> NotADirectoryError:
    """Return the error for a file where a directory is needed."""
    return NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)


def not_empty(path: str) -> OSError:
    """Return the error for a directory that still holds something."""
    return OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
