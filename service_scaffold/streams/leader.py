"""One of the workers is the leader: the one that has the only partition of a topic."""

from __future__ import annotations

from typing import Any


def leader_topic(id: str) -> str:
    """Return the name of that topic."""
    return f'{id}-leader'


async def lead(stream: Any) -> None:
    """Read it: nobody writes to it."""
    async for _ in stream:
        pass
