"""Subscribing and unsubscribing: many packets at once, and what the broker answers to each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from service_scaffold.transports.mqtt_client import REFUSED

AT_ONCE = 500
"""How many packets are sent before their answers are awaited."""


class _Round:
    """Packets that were sent together, and their answers."""

    def __init__(self, on_granted: Callable[[str], None] | None) -> None:
        self.on_granted = on_granted
        self.codes: dict[str, int] = {}
        self.missing = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def add(self, text: str, code: int) -> None:
        self.codes[text] = code
        self.missing -= 1
        if self.on_granted is not None and code < REFUSED:
            self.on_granted(text)
        if not self.missing:
            self.end()

    def end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class Questions:
    """What the broker has been asked on one connection.

    Args:
        check: Raises when the connection has ended.

    Attributes:
        asking: How many callers wait for answers.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._open: dict[int, tuple[_Round, str]] = {}
        self.asking = 0

    async def ask(
        self,
        filters: Sequence[str],
        send: Callable[[str], int | None],
        on_granted: Callable[[str], None] | None = None,
    ) -> dict[str, int]:
        """Send a packet for each filter; return the reason codes.

        Args:
            send: Returns the packet id, None when the connection has ended.
            on_granted: Told of each filter that is not refused, in the moment of its answer.
        """
        codes: dict[str, int] = {}
        self.asking += 1
        try:
            for start in range(0, len(filters), AT_ONCE):
                asked = _Round(on_granted)
                await self._ask(asked, filters[start : start + AT_ONCE], send)
                codes |= asked.codes
        finally:
            self.asking -= 1
        return codes

    async def _ask(
        self, asked: _Round, filters: Sequence[str], send: Callable[[str], int | None]
    ) -> None:
        self._check()
        for text in filters:
            packet_id = send(text)
            if packet_id is not None:
                self._open[packet_id] = (asked, text)
                asked.missing += 1
        if asked.missing:
            await asked.done
        self._check()

    def answered(self, packet_id: int, code: int) -> None:
        """Note an answer; one that nobody waits for is passed over."""
        found = self._open.pop(packet_id, None)
        if found is not None:
            asked, text = found
            asked.add(text, code)

    def end(self) -> None:
        """Wake all callers: there will be no more answers."""
        for asked, _ in self._open.values():
            asked.end()
        self._open.clear()
