"""Files on a disk that are still being written: hidden, and locked while their writer lives.

What a killed process leaves behind is found by its lock, which nobody holds any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from typing import BinaryIO

from service_scaffold.storage import paths

_UNLOCKED_S = 60.0
"""A file younger than this may be one that is just being made, and not locked yet."""


def create(directory: str) -> BinaryIO:
    """Create and open a hidden file in a directory; its `name` is its path."""
    path = os.path.join(directory, f'{paths.TEMPORARY}{secrets.token_hex(8)}')
    file = open(path, 'x+b')  # noqa: SIM115  # the caller closes it
    with contextlib.suppress(OSError):  # network shares may have no locks; then nothing is swept
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def sweep(directory: str) -> None:
    """Delete the unfinished files of a directory whose writers are dead."""
    names: list[str] = []
    with contextlib.suppress(OSError):  # who may write in a directory need not see what is in it
        names = os.listdir(directory)
    for name in names:
        if name.startswith(paths.TEMPORARY):
            path = os.path.join(directory, name)
            with contextlib.suppress(OSError):  # somebody else's, or somebody else was faster
                if _is_abandoned(path):
                    os.unlink(path)


def _is_abandoned(path: str) -> bool:
    with open(path, 'r+b') as file:  # network shares lock no file that is only read
        if time.time() - os.fstat(file.fileno()).st_mtime < _UNLOCKED_S:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
