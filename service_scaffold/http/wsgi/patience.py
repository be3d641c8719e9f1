"""Giving up on a client that takes nothing of what is sent to it."""

from __future__ import annotations

import asyncio
from types import TracebackType

from aiohttp import web


class Patience:
    """While it is entered, the connection is aborted once the client has taken nothing for a while.

    It goes by what waits to be sent, not by the time that takes: a slow client gets all of a large
    block. What is sent within it is woken by the abort, as when the client had left.

    Args:
        limit_s: How long the client may take nothing.
    """

    def __init__(self, request: web.BaseRequest, limit_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = request.transport
        self._limit_s = limit_s
        self._unsent = 0
        self._look_again: asyncio.Handle | None = None

    def __enter__(self) -> None:
        if self._transport is not None:
            # When the block has been handed over; most go out at once, and need no timer.
            self._look_again = self._loop.call_soon(self._look)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._look_again is not None:
            self._look_again.cancel()

    def _look(self) -> None:
        assert self._transport is not None
        unsent = self._transport.get_write_buffer_size()
        if unsent and unsent == self._unsent:
            self._transport.abort()  # close() would wait for the client
            return
        self._unsent = unsent
        self._look_again = self._loop.call_later(self._limit_s, self._look)
