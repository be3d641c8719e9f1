"""Names of the files of a table partition, and what happens to a damaged one."""

from __future__ import annotations

import hashlib
import itertools
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from service_scaffold import errors

LOGGER = logging.getLogger(__name__)

_MAX_NAME = 100


def safe_name(name: str) -> str:
    """Return a file name that belongs to `name` alone, whatever characters that has.

    Lower-case names stay readable. Long ones, and those that a file system without case would
    confuse, carry a hash.
    """
    data = name.encode('utf-8', 'surrogatepass')
    plain = quote(data, safe='').replace('~', '%7E').replace('.', '%2E')
    if plain and len(plain) <= _MAX_NAME and name == name.lower():
        return plain
    return f'{plain[:_MAX_NAME]}~{hashlib.sha256(data).hexdigest()[:16]}'


def store_path(directory: Path, table: str, partition: int, suffix: str) -> Path:
    """Return where the store of a table partition is kept: `{table}-{partition}{suffix}`."""
    return directory / f'{safe_name(table)}-{partition}{suffix}'


def make_directory(directory: Path) -> None:
    """Make `directory` and its parents.

    Raises:
        ConfigError: That is not possible.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.ConfigError(
            f'Cannot make the data directory {directory}: {error.strerror}'
        ) from error


def move_aside(path: Path, reason: str, companions: Sequence[str] = ()) -> None:
    """Rename `path` to the first free `{path}.damaged-N` and say so in one warning.

    Args:
        reason: What is wrong with it.
        companions: Suffixes of files that belong to it and go with it, such as `-wal`.

    Raises:
        StoreError: It cannot be renamed.
    """
    for number in itertools.count(1):
        aside = path.with_name(f'{path.name}.damaged-{number}')
        if not aside.exists():
            break
    try:
        # The companions first: what is left when this is interrupted is still damaged.
        for suffix in companions:
            companion = path.with_name(path.name + suffix)
            if companion.exists():
                companion.rename(aside.with_name(aside.name + suffix))
        path.rename(aside)
    except OSError as error:
        raise errors.StoreError(
            f'{path} is damaged ({reason}) and cannot be moved aside: {error.strerror}'
        ) from error
    LOGGER.warning('%s is damaged (%s): moved to %s, begun anew', path, reason, aside.name)


def remove(path: Path, companions: Sequence[str] = ()) -> None:
    """Remove a file or a directory and its companions, as far as they exist.

    Raises:
        StoreError: That is not possible.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        for suffix in companions:
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise errors.StoreError(f'Cannot remove {path}: {error.strerror}') from error
