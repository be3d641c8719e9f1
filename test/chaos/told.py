"""What the workers tell, and how to wait for it."""

from __future__ import annotations

from service_scaffold.testing.conformance import Inbox
from service_scaffold.testing.conformance.inbox import Received, eventually

WARM_UP = 1_000_000
"""Numbers from here on are published until a group has found its order, and count for nothing."""


class Told(Inbox):
    """What the workers have told."""

    def numbers(self, what: str, by: str | None = None, below: int = WARM_UP) -> list[int]:
        """Return the numbers of one kind of news, of one instance or of all."""
        return [
            one.value['n']
            for one in self.received
            if one.key == what and by in (None, one.value['by']) and one.value['n'] < below
        ]

    def news(self, what: str) -> list[Received]:
        """Return the news of one kind."""
        return [one for one in self.received if one.key == what]

    async def until(self, what: str, numbers: set[int], timeout_s: float = 30) -> None:
        """Wait until all of `numbers` were told."""
        try:
            await eventually(lambda: numbers <= set(self.numbers(what)), timeout_s)
        except TimeoutError:
            missing = sorted(numbers - set(self.numbers(what)))
            raise TimeoutError(f'{len(missing)} never {what}: {missing[:10]}') from None
