"""A directory for each worker, so that several on one host do not share a store.

Below the root each application has `{app}/worker-0`, `worker-1` and so on. A worker takes the
first one that nobody holds: a restarted worker finds its warm state again, and the directory of a
dead one is taken over. The lock is an flock, which ends with its process, however that dies.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
from pathlib import Path
from types import TracebackType

from service_scaffold import errors
from service_scaffold.streams.stores import files

LOGGER = logging.getLogger(__name__)


class Claim:
    """A directory that belongs to this process until `release`, at the latest until its end.

    Attributes:
        path: The directory; it exists.
        slot: Its number among those of the application.
    """

    def __init__(self, path: Path, slot: int, descriptor: int) -> None:
        self.path = path
        self.slot = slot
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let another worker have the directory. A second call does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            # The file stays: unlinking it would let two workers lock two files of one name.
            os.close(descriptor)

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def claim(root: Path, app_id: str, *, slot: int | None = None) -> Claim:
    """Take a directory for this worker of `app_id` below `root`.

    Args:
        slot: Take this one and no other; None takes the first that is free.

    Raises:
        ConfigError: The directory cannot be made or written, or another worker holds `slot`.
    """
    home = root / files.safe_name(app_id)
    files.make_directory(home)
    for number in itertools.count() if slot is None else (slot,):
        path = home / f'worker-{number}'
        descriptor = _lock(path.with_suffix('.lock'))
        if descriptor is None:
            continue
        try:
            files.make_directory(path)
        except errors.ConfigError:
            os.close(descriptor)
            raise
        LOGGER.info('The state of this worker is in %s (slot %d)', path, number)
        return Claim(path, number, descriptor)
    raise errors.ConfigError(
        f'{path} is held by the process {_holder(path.with_suffix(".lock"))}; '
        'stop it, or choose another slot'
    )


def held_by(path: Path) -> str | None:
    """Return the pid of the process that holds a worker's directory, None when nobody does."""
    lock = path.with_suffix('.lock')
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(lock)
    finally:
        os.close(descriptor)
    return None


def _lock(path: Path) -> int | None:
    """Return the descriptor of the locked file, None if a live process has it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise errors.ConfigError(f'Cannot write {path}: {error.strerror}') from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b'%d\n' % os.getpid(), 0)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        os.close(descriptor)
        raise errors.ConfigError(f'Cannot lock {path}: {error.strerror}') from error
    return descriptor


def _holder(path: Path) -> str:
    """Return the pid in a lock file, for a person to read."""
    try:
        return path.read_text().strip() or 'that is just starting'
    except OSError as error:
        return f'(unknown: {error.strerror})'
