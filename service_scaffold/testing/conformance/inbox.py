"""Handlers that keep what they are given, for tests to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from service_scaffold import events
from service_scaffold.message import Message

WAIT_S = 15.0
"""How long the tests wait for what must come; longer than it ever takes."""


async def eventually(condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    """Wait until `condition()` holds, for what tells nobody when it changes.

    Raises:
        TimeoutError: It did not within `timeout_s` seconds.
    """
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - there is nothing to wait on
            await asyncio.sleep(0.005)


class Received:
    """One message as its handler got it.

    Attributes:
        key: The routing key that the handler was called with.
        value: The decoded body.
        message: The envelope.
    """

    __slots__ = ('key', 'message', 'value')

    def __init__(self, key: str, value: Any, message: Message) -> None:
        self.key = key
        self.value = value
        self.message = message

    def __repr__(self) -> str:
        return f'<{self.key}: {self.value!r:.60}>'


class Inbox:
    """A handler for any value.

    Attributes:
        received: All that has come, in order.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self._read = 0
        self._came = asyncio.Event()

    async def __call__(
        self, subscription: events.EventSubscription, key: str, message: Any
    ) -> object:
        """Keep the message."""
        self.put(key, message)
        return None

    def put(self, key: str, value: object) -> None:
        """Keep what a handler was given; to be called inside it."""
        self.received.append(Received(key, value, events.current_message()))
        self._came.set()

    @property
    def unread(self) -> Sequence[Received]:
        """What has come and was not taken yet."""
        return self.received[self._read :]

    @property
    def values(self) -> list[Any]:
        """The values of all that has come."""
        return [one.value for one in self.received]

    async def next(self, timeout_s: float = WAIT_S) -> Received:
        """Return the oldest that was not taken yet; raises TimeoutError."""
        return (await self.take(1, timeout_s))[0]

    async def take(self, count: int, timeout_s: float = WAIT_S) -> list[Received]:
        """Return the oldest `count` that were not taken yet.

        Raises:
            TimeoutError: Fewer came within `timeout_s` seconds.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while len(self.unread) < count:
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            raise TimeoutError(
                f'{len(self.unread)} of {count} messages came within {timeout_s:g} s:'
                f' {list(self.unread)[-5:]}'
            ) from None
        taken = list(self.unread[:count])
        self._read += count
        return taken

    async def until(self, value: object, timeout_s: float = WAIT_S) -> list[Any]:
        """Return the values up to `value`, which is left out; raises TimeoutError."""
        values = []
        async with asyncio.timeout(timeout_s):
            while (found := (await self.next(timeout_s)).value) != value:
                values.append(found)
        return values

    async def all_of(self, values: Sequence[object], timeout_s: float = WAIT_S) -> None:
        """Wait until each of `values` has come at least once; raises TimeoutError naming some."""
        missing = set(values) - set(self.values[: self._read])
        try:
            async with asyncio.timeout(timeout_s):
                while missing:
                    missing.discard((await self.next(timeout_s)).value)
        except TimeoutError:
            some = sorted(missing, key=str)[:5]
            raise TimeoutError(
                f'{len(missing)} never came within {timeout_s:g} s: {some}'
            ) from None


class RawInbox(Inbox):
    """A handler for bodies as they are."""

    async def __call__(
        self, subscription: events.EventSubscription, key: str, message: bytes
    ) -> object:
        """Keep the message."""
        self.put(key, message)
        return None


class Gate(Inbox):
    """A handler that keeps what it is given, and stays inside until it is let go.

    Attributes:
        running: How many are inside now.
        most: How many were inside at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.running = 0
        self.most = 0
        self.finished = Inbox()
        self._open = asyncio.Event()

    def open(self) -> None:
        """Let those inside go, and those that come later pass."""
        self._open.set()

    async def __call__(
        self, subscription: events.EventSubscription, key: str, message: Any
    ) -> object:
        """Keep the message, and wait."""
        self.running += 1
        self.most = max(self.most, self.running)
        self.put(key, message)
        try:
            await self._open.wait()
        finally:
            self.running -= 1
        self.finished.put(key, message)
        return message
