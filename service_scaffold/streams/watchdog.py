"""A thread that says which line of code blocks the event loop.

While the loop is blocked nothing else runs: no heartbeat reaches the broker, and after the session
timeout the partitions are somebody else's. Blocking code belongs into `asyncio.to_thread`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from types import FrameType

LOGGER = logging.getLogger(__name__)

LOOKS = 4
"""How often one looks within the limit."""
STACK_LIMIT = 40


class Watchdog:
    """Watches the loop in which it is started, until `stop`.

    Args:
        limit_s: The loop may be blocked for so long; longer is warned of, once each time, and the
            end of it told.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._beat_at = 0.0
        self._warned = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watched = 0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch the running loop."""
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._stopped.clear()
        self._beat_at, self._warned = time.monotonic(), False
        self._beat()
        # A daemon: it must not keep a process alive whose loop ends without a word.
        self._thread = threading.Thread(target=self._watch, name='loop watchdog', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End watching; idempotent."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            self._thread.join(self._limit_s)
            self._thread = None

    def _beat(self) -> None:
        assert self._loop is not None
        before, self._beat_at = self._beat_at, time.monotonic()
        if self._warned:
            self._warned = False
            LOGGER.warning(
                'The event loop runs again; it was blocked for %.1f s', self._beat_at - before
            )
        self._timer = self._loop.call_later(self._limit_s / LOOKS, self._beat)

    def _watch(self) -> None:
        pause_s = self._limit_s / LOOKS
        while not self._stopped.wait(pause_s):
            silent_s = time.monotonic() - self._beat_at
            if silent_s >= self._limit_s and not self._warned:
                self._warned = True
                self._warn(silent_s)

    def _warn(self, silent_s: float) -> None:
        frame = sys._current_frames().get(self._watched)
        if frame is None:
            return
        LOGGER.warning(
            'The event loop is blocked for %.1f s by %s;'
            ' use asyncio.to_thread for blocking code\n%s',
            silent_s,
            place_of(frame),
            ''.join(traceback.format_stack(frame, STACK_LIMIT)).rstrip(),
        )


def place_of(frame: FrameType) -> str:
    """Return file, line and function of the innermost code that is not the standard library's."""
    found: FrameType | None = frame
    while found is not None and _is_library(found):
        found = found.f_back
    chosen = frame if found is None else found
    code = chosen.f_code
    return f'{code.co_filename}:{chosen.f_lineno} in {code.co_name}'


def _is_library(frame: FrameType) -> bool:
    name = str(frame.f_globals.get('__name__', ''))
    return name.partition('.')[0] in sys.stdlib_module_names and name != '__main__'
