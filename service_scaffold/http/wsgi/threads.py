"""The threads that WSGI applications run in: so many, shared by all mounts of an application."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any

from aiohttp import web

from service_scaffold import features, options
from service_scaffold.http.wsgi.settings import Settings


class WSGIThreads(features.ServiceFeature):
    """Runs functions in at most `settings.threads` threads, from start to stop.

    The threads are daemons, which those of an executor are not: a view that hangs cannot keep the
    process from exiting.
    """

    def __init__(self, app: web.Application) -> None:
        super().__init__(app)
        self.settings = Settings.read({})
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._free = asyncio.Semaphore(0)
        self._idle = asyncio.Event()
        self._running = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, app: web.Application) -> None:
        config: dict[str, Any] = app.get(options.CONFIG, {})
        self.settings = Settings.read(config)
        self._loop = asyncio.get_running_loop()
        self._free = asyncio.Semaphore(self.settings.threads)
        self._idle = asyncio.Event()
        self._idle.set()

    async def shutdown(self, app: web.Application) -> None:
        # Requests are answered by now; what may still run is what views do after their response.
        try:
            await self._idle.wait()
        finally:
            for _ in self._threads:
                self._jobs.put(None)
            self._threads = []
            self._jobs = queue.SimpleQueue()

    async def acquire(self) -> None:
        """Wait for a free thread; `start` or `release` gives it back.

        Raises:
            TimeoutError: None was free within `settings.wait_s`.
        """
        if self._free.locked():
            async with asyncio.timeout(self.settings.wait_s):
                await self._free.acquire()
        else:
            await self._free.acquire()  # at once
        self._running += 1
        self._idle.clear()

    def release(self) -> None:
        """Give an acquired thread back."""
        self._free.release()
        self._running -= 1
        if not self._running:
            self._idle.set()

    def start(self, job: Callable[[], None]) -> None:
        """Run `job` in the thread that was acquired, and release that at its end.

        Raises:
            RuntimeError: The system gives us no more threads; it has been released.
        """
        if len(self._threads) < min(self._running, self.settings.threads):
            try:
                self._add_thread()
            except RuntimeError:
                self.release()
                raise
        self._jobs.put(job)

    def _add_thread(self) -> None:
        thread = threading.Thread(
            target=self._work,
            args=(self._jobs,),
            name=f'wsgi-{len(self._threads) + 1}',
            daemon=True,
        )
        thread.start()
        self._threads.append(thread)

    def _work(self, jobs: queue.SimpleQueue[Callable[[], None] | None]) -> None:
        loop = self._loop
        assert loop is not None
        while (job := jobs.get()) is not None:
            try:
                job()
            finally:
                del job  # what it holds must not live until the next request
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(self.release)


def threads_of(app: web.Application) -> WSGIThreads:
    """Return the threads of `app`, which are made on first use."""
    if not features.has(app, WSGIThreads):
        features.add(app, WSGIThreads(app))
    return features.get(app, WSGIThreads)
