"""What was published on a memory bus, for tests that look back or wait for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from service_scaffold.message import Message
from service_scaffold.transports import patterns

HISTORY = 10_000
"""How many published messages are remembered."""

Where = Callable[[Message], bool]


class _Entry:
    __slots__ = ('expected', 'message')

    def __init__(self, message: Message) -> None:
        self.message = message
        self.expected = False


class Recorder:
    """A bounded history of published messages; off until a test wants it.

    Attributes:
        on: Whether messages are remembered.
    """

    def __init__(self) -> None:
        self.on = False
        self._entries: deque[_Entry] = deque(maxlen=HISTORY)
        self._waiting: list[asyncio.Future[None]] = []

    def add(self, message: Message) -> None:
        """Remember a message and wake those who expect one."""
        self._entries.append(_Entry(message))
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done() and not waiter.get_loop().is_closed():
                waiter.set_result(None)

    def published(self, exchange: str | None, pattern: str) -> list[Message]:
        """Return the remembered messages that match, oldest first."""
        return [e.message for e in self._entries if _fits(e.message, exchange, pattern, None)]

    async def expect(
        self, exchange: str | None, pattern: str, timeout_s: float, where: Where | None
    ) -> Message:
        """Return the oldest match that no `expect` has returned yet; wait for it.

        Raises:
            TimeoutError: None was published within `timeout_s`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while (found := self._next(exchange, pattern, where)) is None:
                    waiter = asyncio.get_running_loop().create_future()
                    self._waiting.append(waiter)
                    await waiter
        except TimeoutError:
            raise TimeoutError(
                f'Nothing was published to {exchange or "any exchange"}/{pattern} within'
                f' {timeout_s:g} s'
            ) from None
        found.expected = True
        return found.message

    def _next(self, exchange: str | None, pattern: str, where: Where | None) -> _Entry | None:
        for entry in self._entries:
            if not entry.expected and _fits(entry.message, exchange, pattern, where):
                return entry
        return None


def _fits(message: Message, exchange: str | None, pattern: str, where: Where | None) -> bool:
    return (
        (exchange is None or exchange == message.exchange)
        and patterns.matches(pattern, message.routing)
        and (where is None or where(message))
    )
