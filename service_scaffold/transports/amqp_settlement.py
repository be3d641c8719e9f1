"""Settling the deliveries of one channel with few frames, whatever order they finish in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

_HOLE_S = 0.02
_RETRY_S = 0.005


class Acknowledger(Protocol):
    """The part of a channel that is needed here."""

    @property
    def writable(self) -> bool: ...

    def acks(self, up_to: int, single: Iterable[int], back: Iterable[int]) -> bytes: ...

    def write(self, payload: bytes, drained: asyncio.Future[None] | None = None) -> None: ...


class Settlement:
    """Which delivery tags of one channel are done, and which the broker knows of.

    Tags are 1, 2, 3 … in the order of delivery, so that all below the lowest unfinished one are
    settled by one frame, at the next turn of the event loop. What is done above it is settled
    singly: a little later, since most often the gap closes meanwhile, or as soon as it fills half
    of the prefetch window. What goes back goes in the order of delivery, in which a quorum queue
    gives it out again. Tags that are settled twice are ignored: the broker closes the channel for
    that.
    """

    def __init__(self, channel: Acknowledger, prefetch: int) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._hole_limit = max(1, prefetch // 2)
        self._floor = 0  # all tags up to here are settled
        self._done: set[int] = set()  # above the floor; the broker does not know
        self._apart: set[int] = set()  # above the floor; settled singly, or handed back
        self._back: list[int] = []
        self._soon: asyncio.Handle | None = None
        self._later: asyncio.TimerHandle | None = None
        self._ended = False

    def done(self, tags: Iterable[int]) -> None:
        """Settle these deliveries."""
        if self._ended:
            return
        self._done.update(tag for tag in tags if self._is_open(tag))
        self._schedule()

    def back(self, tags: Iterable[int]) -> None:
        """Hand these deliveries back to the queue."""
        if self._ended:
            return
        fresh = [tag for tag in tags if self._is_open(tag)]
        self._apart.update(fresh)
        self._back += fresh
        self._schedule()

    def flush(self, *, holes: bool = True) -> bool:
        """Tell the broker; False when the channel cannot take it now."""
        if self._ended:
            return True
        if not self._channel.writable:
            return False
        up_to = self._advance()
        single = sorted(self._done) if holes or len(self._done) >= self._hole_limit else []
        if up_to or single or self._back:
            self._channel.write(self._channel.acks(up_to, single, sorted(self._back)))
        self._apart.update(single)
        self._done.difference_update(single)
        self._back.clear()
        return True

    def end(self) -> None:
        """Drop everything: the channel has gone, its deliveries are the broker's again."""
        self._ended = True
        for handle in (self._soon, self._later):
            if handle is not None:
                handle.cancel()
        self._done.clear()
        self._back.clear()

    def _is_open(self, tag: int) -> bool:
        return tag > self._floor and tag not in self._done and tag not in self._apart

    def _advance(self) -> int:
        """Raise the floor; return the highest tag below it of which the broker does not know."""
        up_to, tag = 0, self._floor + 1
        while True:
            if tag in self._done:
                self._done.remove(tag)
                up_to = tag
            elif tag in self._apart:
                self._apart.remove(tag)
            else:
                break
            tag += 1
        self._floor = tag - 1
        return up_to

    def _schedule(self) -> None:
        if self._soon is None:
            self._soon = self._loop.call_soon(self._on_soon)

    def _on_soon(self) -> None:
        self._soon = None
        if not self.flush(holes=False):
            self._wait(_RETRY_S)
        elif self._done:
            self._wait(_HOLE_S)

    def _on_later(self) -> None:
        self._later = None
        if not self.flush():
            self._wait(_RETRY_S)

    def _wait(self, delay_s: float) -> None:
        if self._later is None and not self._ended:
            self._later = self._loop.call_later(delay_s, self._on_later)
