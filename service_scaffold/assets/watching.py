"""Who wants to know of changes: each gets its own, in order, and disturbs nobody."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from service_scaffold.assets.record import Attribute, Kind

LOGGER = logging.getLogger(__name__)

BUFFER = 10_000
"""How many changes may wait for one callback; then the oldest are dropped, with a warning."""

OnChange = Callable[[Attribute], Any]
Spawn = Callable[[Any, str], 'asyncio.Task[Any]']


class Watch:
    """Calls `on_change(attribute)` for each change that is wanted, until it is closed.

    Attributes:
        dropped: Changes that were not told, because the callback was too slow.
    """

    def __init__(
        self,
        on_change: OnChange,
        spawn: Spawn,
        closed: Callable[[Watch], None],
        attribute: str | None = None,
        kind: Kind | None = None,
    ) -> None:
        self.dropped = 0
        self._on_change = on_change
        self._spawn = spawn
        self._closed = closed
        self._attribute = attribute
        self._kind = kind
        self._waiting: deque[Attribute] = deque()
        self._task: asyncio.Task[Any] | None = None

    def wants(self, attribute: Attribute) -> bool:
        """Return whether the callback is to be told."""
        return self._attribute in (None, attribute.id) and self._kind in (None, attribute.kind)

    def tell(self, attribute: Attribute) -> None:
        """Have the callback called, after the changes before this one."""
        if len(self._waiting) >= BUFFER:
            self._waiting.popleft()
            if not self.dropped:
                LOGGER.warning('%s is too slow: changes of %s are dropped', self, attribute.asset)
            self.dropped += 1
        self._waiting.append(attribute)
        if self._task is None:
            self._task = self._spawn(self._run(), f'{self} of {attribute.asset}')

    def close(self) -> None:
        """Tell nothing more; a callback that runs is not interrupted. Idempotent."""
        self._waiting.clear()
        self._closed(self)

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._call(self._waiting.popleft())
        finally:
            self._task = None

    async def _call(self, attribute: Attribute) -> None:
        try:
            answer = self._on_change(attribute)
            if inspect.isawaitable(answer):
                await answer
        except Exception:
            LOGGER.exception('%s failed on %s.%s', self, attribute.asset, attribute.id)

    def __str__(self) -> str:
        name = getattr(self._on_change, '__qualname__', None) or repr(self._on_change)
        return f'callback {name}'
