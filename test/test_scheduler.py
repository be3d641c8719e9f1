"""Tests of `service_scaffold.scheduler`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from service_scaffold import features, options, scheduler


@pytest_asyncio.fixture
async def app() -> AsyncIterator[web.Application]:
    """A running application with a scheduler."""
    application = web.Application()
    options.store_config(application, {'shutdown_timeout_s': 2.0})
    scheduler.setup(application)
    async with TestServer(application):
        yield application


async def forever() -> None:
    await asyncio.Event().wait()


async def crash() -> None:
    raise ValueError('out of water')


def test_setup_may_be_called_twice() -> None:
    app = web.Application()

    scheduler.setup(app)
    scheduler.setup(app)

    assert scheduler.get_scheduler(app) is features.get(app, scheduler.TaskScheduler)
    assert len(features.get_lifecycle(app).features) == 1


async def test_setup_after_the_start_is_refused() -> None:
    """Nobody would end its tasks."""
    app = web.Application()
    features.get_lifecycle(app)

    async with TestServer(app):
        with pytest.raises(RuntimeError, match='TaskScheduler'):
            scheduler.setup(app)


async def test_without_setup_it_is_a_key_error() -> None:
    app = web.Application()
    with pytest.raises(KeyError, match='TaskScheduler'):
        scheduler.get_scheduler(app)
    with pytest.raises(KeyError):
        await scheduler.cancel_task(app, None)


async def test_create_gives_the_task(app: web.Application) -> None:
    async def answer() -> int:
        return 42

    task = await scheduler.create_task(app, answer(), name='answer')

    assert isinstance(task, asyncio.Task)
    assert task.get_name() == 'answer'
    assert await task == 42


async def test_a_task_may_be_made_before_the_start() -> None:
    app = web.Application()
    scheduler.setup(app)

    task = await scheduler.get_scheduler(app).create(forever())
    async with TestServer(app):
        assert not task.done()

    assert task.cancelled()


async def test_tasks_end_with_the_application() -> None:
    app = web.Application()
    scheduler.setup(app)
    ended: list[str] = []

    async def parent() -> None:
        try:
            await scheduler.create_task(app, forever())
            await forever()
        finally:
            ended.append('parent')

    async with TestServer(app):
        task = await scheduler.create_task(app, parent())
        await asyncio.sleep(0)

    assert task.cancelled()
    assert ended == ['parent']


async def test_a_task_that_resists_once_ends_all_the_same() -> None:
    app = web.Application()
    options.store_config(app, {'shutdown_timeout_s': 0.5})
    scheduler.setup(app)
    cancels: list[int] = []

    async def resist() -> None:
        while len(cancels) < 2:
            try:
                await forever()
            except asyncio.CancelledError:
                cancels.append(1)

    async with TestServer(app):
        task = await scheduler.create_task(app, resist())
        await asyncio.sleep(0)

    assert task.done()
    assert len(cancels) == 2
    assert features.get_lifecycle(app).failures == []


async def test_a_task_that_never_ends_is_a_failure_of_the_stop() -> None:
    app = web.Application()
    options.store_config(app, {'shutdown_timeout_s': 0.3})
    scheduler.setup(app)
    released = False

    async def resist() -> None:
        while not released:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    async with TestServer(app):
        task = await scheduler.create_task(app, resist(), name='stubborn')
        await asyncio.sleep(0)

    [failure] = features.get_lifecycle(app).failures
    released = True
    await task
    assert failure.feature == 'TaskScheduler'
    assert 'stubborn' in str(failure.error)


async def test_after_the_stop_no_task_can_be_made() -> None:
    app = web.Application()
    scheduler.setup(app)
    async with TestServer(app):
        pass
    coro = forever()

    with pytest.raises(RuntimeError, match='stopped'):
        await scheduler.create_task(app, coro)

    assert coro.cr_frame is None  # closed, so that Python does not complain of it


async def test_a_crash_is_logged_once_with_its_traceback(
    app: web.Application, caplog: pytest.LogCaptureFixture
) -> None:
    task = await scheduler.create_task(app, crash(), name='watering')
    await asyncio.wait({task})
    assert await scheduler.cancel_task(app, task) is None

    [record] = [record for record in caplog.records if 'watering' in record.getMessage()]
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError
    assert caplog.text.count('ValueError: out of water') == 1


async def test_what_is_cancelled_within_is_a_crash_too(
    app: web.Application, caplog: pytest.LogCaptureFixture
) -> None:
    lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await lost

    task = await scheduler.create_task(app, wait(), name='watering')
    other = await scheduler.create_task(app, asyncio.Event().wait(), name='weeding')
    await asyncio.sleep(0)
    lost.cancel()
    other.cancel()
    await asyncio.wait({task, other})

    assert 'Task watering failed: what it awaited was cancelled' in caplog.text
    assert 'weeding' not in caplog.text


async def test_a_crash_is_still_raised_for_who_awaits_the_task(app: web.Application) -> None:
    task = await scheduler.create_task(app, crash())

    with pytest.raises(ValueError, match='out of water'):
        await task


async def test_cancel_waits_until_the_task_has_ended(app: web.Application) -> None:
    ended: list[str] = []

    async def tidy() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0.01)
            ended.append('tidied')

    task = await scheduler.create_task(app, tidy())
    await asyncio.sleep(0)

    assert await scheduler.cancel_task(app, task) is None
    assert ended == ['tidied']


async def test_cancel_need_not_wait(app: web.Application) -> None:
    task = await scheduler.create_task(app, forever())

    assert await scheduler.get_scheduler(app).cancel(task, wait_for=False) is None

    assert not task.done()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_cancel_gives_the_result_and_hides_the_exception(app: web.Application) -> None:
    async def last_words() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            return 'bye'
        return 'never'

    async def bad_end() -> None:
        try:
            await forever()
        finally:
            raise ValueError('bad end')

    polite = await scheduler.create_task(app, last_words())
    bad = await scheduler.create_task(app, bad_end())
    await asyncio.sleep(0)

    assert await scheduler.cancel_task(app, polite) == 'bye'
    assert await scheduler.cancel_task(app, polite) == 'bye'
    assert await scheduler.cancel_task(app, bad) is None


async def test_nothing_and_foreign_tasks_can_be_cancelled(app: web.Application) -> None:
    foreign = asyncio.create_task(forever())

    assert await scheduler.cancel_task(app, None) is None
    assert await scheduler.cancel_task(app, foreign) is None

    assert foreign.cancelled()


async def test_who_waits_for_a_cancel_can_be_cancelled_itself(app: web.Application) -> None:
    release = asyncio.Event()

    async def slow_to_end() -> None:
        try:
            await forever()
        finally:
            await release.wait()

    task = await scheduler.create_task(app, slow_to_end())
    await asyncio.sleep(0)
    waiter = asyncio.create_task(scheduler.cancel_task(app, task))
    await asyncio.sleep(0)

    waiter.cancel()
    await asyncio.wait({waiter})

    assert waiter.cancelled()
    assert not task.done()
    release.set()


async def test_spawn_is_create_for_callers_that_cannot_await(app: web.Application) -> None:
    task = scheduler.get_scheduler(app).spawn(crash(), name='spawned')

    await asyncio.wait({task})

    assert task.get_name() == 'spawned'
    assert isinstance(task.exception(), ValueError)
