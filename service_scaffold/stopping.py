"""Being told to stop, and having to be done in time."""

from __future__ import annotations

import _thread
import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, ClassVar

LOGGER = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)

ECHO_S = 0.05
"""A signal this soon after the first is the same request: tools signal a process and its group."""


class StopRequest:
    """Whether, and how, the service was told to stop. The first request counts.

    Signals may come at any time and while the loop is blocked, so they are handled by Python's own
    handlers and not by the loop's: the second one ends the process whatever it is doing. One signal
    stops every service of the process.
    """

    _listening: ClassVar[list[StopRequest]] = []
    _before: ClassVar[dict[signal.Signals, Any]] = {}  # what the module gives
    _signalled_at: ClassVar[float | None] = None

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._guard: Callable[[], None] = lambda: None

    def set(self) -> None:
        """Ask to stop; from the loop's thread."""
        self._event.set()

    def set_soon(self) -> None:
        """Ask to stop; from any thread, and to no effect once the loop is closed."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> None:
        """Wait until somebody has asked."""
        await self._event.wait()

    @contextmanager
    def on_signals(self, guard: Callable[[], None] | None = None) -> Iterator[None]:
        """Ask on SIGTERM and SIGINT. Outside the main thread signals are left alone.

        Args:
            guard: Called at the first signal, wherever that interrupts the program, whether the
                loop is blocked or not. It must take no lock.
        """
        if guard is not None:
            self._guard = guard
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        if not self._listening:
            StopRequest._signalled_at = None
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._on_signal)
        self._listening.append(self)
        try:
            yield
        finally:
            self._listening.remove(self)
            if not self._listening:
                for number, handler in self._before.items():
                    signal.signal(number, handler)

    @classmethod
    def _on_signal(cls, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        now = time.monotonic()
        if cls._signalled_at is not None:
            if now - cls._signalled_at < ECHO_S:
                return
            # Not through logging: the signal may have come while it holds its locks.
            os.write(2, f'{name} again: exiting at once\n'.encode())
            os._exit(1)
        cls._signalled_at = now
        for request in cls._listening:
            request._guard()
            request._loop.call_soon_threadsafe(request._announce, name)

    def _announce(self, name: str) -> None:
        LOGGER.info('%s: stopping', name)
        self._event.set()


class Watchdog:
    """Ends the process when stopping takes longer than it may, even if the loop is blocked."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._released = False

    def start(self, seconds: float) -> None:
        """Allow `seconds` from now; of several limits the first that is reached counts.

        Also for signal handlers: a thread of `threading` takes locks as it starts, which the
        program may hold where the signal has interrupted it.
        """
        _thread.start_new_thread(self._watch, (seconds,))

    def release(self) -> None:
        """The service has stopped; what is left to guard is the exit, if it is under way by then.

        A program waits at its end for each thread that is no daemon, for as long as that takes.
        """
        self._released = True

    def cancel(self) -> None:
        """All has stopped in time."""
        self._over.set()

    def _watch(self, seconds: float) -> None:
        if not self._over.wait(seconds):
            self._bite(seconds)

    def _bite(self, seconds: float) -> None:
        # The flag, as main_thread() counts as alive while the threads of executors are awaited.
        exiting = getattr(threading, '_SHUTTING_DOWN', False)
        if self._released and not exiting and threading.main_thread().is_alive():
            return  # the program goes on after `run`, which is its own affair
        names = ', '.join(thread.name for thread in threading.enumerate() if not thread.daemon)
        os.write(2, f'Not stopped within {seconds:.1f} s: exiting with {names}\n'.encode())
        os._exit(1)


class Tame(Watchdog):
    """Ends nothing: for whoever runs us within a program of their own."""

    def start(self, seconds: float) -> None:
        """Do nothing."""
