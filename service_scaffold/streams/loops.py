"""The event loop of an application, usable as a property and as a method."""

from __future__ import annotations

import asyncio
from typing import Any


class LoopHandle:
    """Stands for a loop: `app.loop.create_task(…)` and `app.loop().create_task(…)` are the same."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __call__(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)
