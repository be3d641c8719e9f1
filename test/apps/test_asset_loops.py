"""How the main loop of an `AssetApp` begins and ends, when it does so in odd ways."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from service_scaffold import assets
from service_scaffold.apps import AssetApp
from test.events.conftest import until


def make(name: str, loop: Callable[..., Any], **more: Any) -> Any:
    """Make an application with this loop."""
    keywords = {'host': '127.0.0.1', 'port': 0, 'test_mode': True}
    options = {key: more.pop(key) for key in tuple(more) if key in ('shutdown_timeout_s',)}
    return type('Mill', (AssetApp,), {name: loop, **more})('mill-1', **keywords, **options)


async def rest(self: AssetApp) -> None:
    await asyncio.Event().wait()


async def await_something_cancelled(self: AssetApp) -> None:
    task = asyncio.ensure_future(asyncio.sleep(100))
    task.cancel()
    await task


def exhaust(self: AssetApp) -> None:
    next(iter(()))


def interrupt(self: AssetApp) -> None:
    raise KeyboardInterrupt


async def interrupt_async(self: AssetApp) -> None:
    raise KeyboardInterrupt


def cancel(self: AssetApp) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ('name', 'loop'),
    [
        ('async_main_loop', await_something_cancelled),
        ('async_main_loop', interrupt_async),
        ('main_loop', exhaust),
        ('main_loop', interrupt),
        ('main_loop', cancel),
    ],
)
async def test_an_application_does_not_outlive_its_loop_whatever_ended_it(
    name: str, loop: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = make(name, loop)
    async with asyncio.timeout(10):
        assert await app.async_run() == 1
    assert app.avail.value == assets.UNAVAILABLE
    assert sum('main loop; stopping' in record.message for record in caplog.records) == 1


async def test_a_loop_that_cleans_up_when_it_is_cancelled_may_still_set_attributes() -> None:
    async def work(self: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            await self.set('position', 0)

    app = make('async_main_loop', work, position=assets.sample())
    await app.start()
    await app.stop()
    assert app.asset['position'].value == 0


async def test_a_second_thread_is_not_started_beside_one_that_was_left_behind() -> None:
    ended = threading.Event()
    begun: list[int] = []

    def work(self: Any) -> None:
        begun.append(1)
        ended.wait(60)

    app = make('main_loop', work, shutdown_timeout_s=1)
    await app.start()
    await until(lambda: begun)
    await app.stop()
    with pytest.raises(RuntimeError, match='of the last run has not ended'):
        await app.start()
    assert len(begun) == 1
    ended.set()
    app._loop._thread.join(10)
    await app.start()
    await app.stop()
    assert len(begun) == 2


def test_it_may_be_run_again_in_another_event_loop() -> None:
    """Also when something else takes so long to start that the asset has to wait."""

    async def come_and_go(self: Any) -> None:
        assert self.avail.value == assets.AVAILABLE

    async def slow(app: web.Application) -> None:
        for _ in range(200):
            await asyncio.sleep(0)

    app = make('async_main_loop', come_and_go)
    app.application.on_startup.append(slow)
    for _ in range(2):
        assert asyncio.run(app.async_run()) == 0


async def test_a_runner_that_is_not_ours_makes_it_available_as_well() -> None:
    app = make('async_main_loop', rest)
    async with TestServer(app.application):
        await until(lambda: app.avail.value == assets.AVAILABLE)
    assert app.avail.value == assets.UNAVAILABLE


async def test_its_handler_of_signals_stops_it_also_while_it_starts() -> None:
    """And once it has stopped there is nothing to stop."""

    def banner(self: Any) -> None:
        self.signal_handler(15, None)

    begun: list[int] = []

    async def work(self: Any) -> None:
        begun.append(1)

    app = make('async_main_loop', work, welcome_banner=banner)
    async with asyncio.timeout(10):
        assert await app.async_run() == 0
    assert not begun
    await asyncio.to_thread(app.signal_handler, 15, None)


async def test_a_last_hook_that_hangs_is_not_awaited_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def end(self: Any) -> None:
        return None

    app = make('async_main_loop', end, app_event_loop_stopped=rest, shutdown_timeout_s=0.5)
    async with asyncio.timeout(10):
        assert await app.async_run() == 0
    assert 'app_event_loop_stopped failed' in caplog.text


async def test_flags_that_say_nothing_new_leave_the_asset_as_it_was() -> None:
    app = make('async_main_loop', rest)
    logger = app.logger = logging.getLogger('own')
    asset = app.asset
    app.read_arguments(['--port', '0', '--host', '127.0.0.1'])
    assert app.logger is logger
    assert app.asset is asset
    app.read_arguments(['--port', '0', '--name', 'mill-2'])
    assert app.asset.id == 'mill-2'


async def test_a_thread_with_an_event_loop_of_its_own_may_call_ours() -> None:
    async def work(app: Any) -> None:
        app.sync.set('position', 5)

    app = make('async_main_loop', rest, position=assets.sample())
    await app.start()
    await asyncio.to_thread(lambda: asyncio.run(work(app)))
    assert app.asset['position'].value == 5
    with pytest.raises(RuntimeError, match="on the application's event loop: await"):
        app.sync.set('position', 6)
    await app.stop()
    with pytest.raises(RuntimeError, match='does not run'):
        app.sync.set('position', 6)
