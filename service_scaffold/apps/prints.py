"""What is printed, in the log."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

LOGGER = logging.getLogger('service_scaffold.printed')


class LogStream(io.TextIOBase):
    """A text stream whose lines are logged.

    Args:
        level: At which.
    """

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level
        self._own = threading.local()  # lines of threads are not mixed, and logging may print

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if getattr(self._own, 'busy', False):
            return len(text)
        *lines, rest = (getattr(self._own, 'rest', '') + text).split('\n')
        self._own.rest = rest
        self._own.busy = True
        try:
            for line in lines:
                if line.strip():
                    LOGGER.log(self._level, '%s', line)
        finally:
            self._own.busy = False
        return len(text)


@contextmanager
def logged_prints(level: str) -> Iterator[None]:
    """Log what is printed to standard output and standard error meanwhile."""
    stream = LogStream(logging.getLevelNamesMapping()[level.upper()])
    with redirect_stdout(stream), redirect_stderr(stream):
        yield
