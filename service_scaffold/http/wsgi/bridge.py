"""The way from the thread of a view to the event loop, for as long as its request lives."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Generic, ParamSpec, TypeVar, cast

P = ParamSpec('P')
T = TypeVar('T')
R = TypeVar('R')


class Gone(ConnectionResetError):
    """The request has ended: its client has left, or the service is stopping."""


class Bridge(Generic[R]):
    """Lets a thread have coroutines awaited by the task that handles its request.

    That task calls `serve`, which returns when the thread calls `end`; whatever happens to the
    task, it calls `close` in the end, so that the thread never waits for nobody.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._lock = threading.Lock()
        self._calls: deque[tuple[Callable[[], Awaitable[object]], Future[object]]] = deque()
        self._ended: tuple[R] | None = None
        self._closed = False

    # In the thread

    def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **keywords: P.kwargs) -> T:
        """Have `function(*args)` awaited, and return its result.

        Raises:
            Gone: The request has ended.
            Exception: What it raises.
        """
        answer: Future[object] = Future()
        with self._lock:
            if self._closed:
                raise Gone('the request has ended')
            self._calls.append((lambda: function(*args, **keywords), answer))
            self._loop.call_soon_threadsafe(self._wake.set)
        return cast(T, answer.result())

    def end(self, result: R) -> bool:
        """Have `serve` return `result`; False when nobody waits for it any more."""
        with self._lock:
            if self._closed or self._ended is not None:
                return False
            self._ended = (result,)
            self._loop.call_soon_threadsafe(self._wake.set)
        return True

    # In the task

    async def serve(self) -> R:
        """Await what the thread calls, until it ends; return what it ends with."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._calls:
                function, answer = self._calls.popleft()
                try:
                    answer.set_result(await function())
                except Exception as error:  # noqa: BLE001  # it is raised in the thread
                    answer.set_exception(error)
                except BaseException:
                    answer.set_exception(Gone('the request was cut off'))
                    raise
            if self._ended is not None:
                return self._ended[0]

    def close(self) -> None:
        """End the request: from now on, calls of the thread raise `Gone`."""
        with self._lock:
            self._closed = True
            while self._calls:
                self._calls.popleft()[1].set_exception(Gone('the request has ended'))
