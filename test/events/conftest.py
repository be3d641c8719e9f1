"""An application on the memory bus, and what its handlers were given."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from aiohttp import web

from service_scaffold import events, features, service
from service_scaffold.clock import ManualClock

LIMIT_S = 5.0
MakeApp = Callable[..., web.Application]


@pytest.fixture
def make_app() -> MakeApp:
    """Make an application with events; `clock=` is set before anything is set up."""

    def make(*args: str, clock: ManualClock | None = None) -> web.Application:
        app = service.create_app('plant', raw_args=list(args))
        if clock is not None:
            features.set_clock(app, clock)
        events.setup(app)
        return app

    return make


@pytest.fixture
def app(make_app: MakeApp) -> web.Application:
    """An application with events and nothing subscribed."""
    return make_app()


class Inbox:
    """A handler that remembers, may be held up, and may fail."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self.messages: list[events.Message] = []
        self.finished: list[object] = []
        self.errors: list[BaseException | None] = []
        self.open = asyncio.Event()
        self.open.set()
        self.most_at_once = 0
        self._at_once = 0

    async def __call__(self, subscription: object, key: str, message: object) -> object:
        self.values.append(message)
        self.messages.append(events.current_message())
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await self.open.wait()
        finally:
            self._at_once -= 1
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        self.finished.append(message)
        return message

    def close(self) -> None:
        """Hold up every call from now on, until `open.set()`."""
        self.open.clear()

    async def got(self, count: int) -> list[object]:
        """Wait until it has been called `count` times."""
        await until(lambda: len(self.values) >= count)
        return self.values


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop turn until something is so."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, 'it never came to be'
        await asyncio.sleep(0)
