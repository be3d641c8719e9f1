"""Tests of `service_scaffold.repeater`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from service_scaffold import backoff, clock, errors, features, repeater, scheduler


class Ticker(repeater.RepeaterFeature):
    """Ticks once a second; what else happens, a test decides."""

    backoff = backoff.Backoff(base_s=2.0, factor=2.0, max_s=5.0, jitter=False)

    def __init__(self, app: web.Application) -> None:
        super().__init__(app)
        self.prepared = 0
        self.ticks: list[float] = []
        self.on_prepare: Callable[[], None] = lambda: None
        self.on_run: Callable[[], None] = lambda: None

    async def prepare(self) -> None:
        self.prepared += 1
        self.on_prepare()

    async def run(self) -> None:
        self.ticks.append(self.clock.time())
        self.on_run()
        await self.clock.sleep(1.0)


def fail() -> None:
    raise ValueError('no sensor')


def find_cancelled() -> None:
    """As awaiting something does that others have cancelled."""
    raise asyncio.CancelledError


def end() -> None:
    raise repeater.RepeaterCancelled


@pytest.fixture
def time() -> clock.ManualClock:
    return clock.ManualClock()


@pytest.fixture
def app(time: clock.ManualClock) -> web.Application:
    application = web.Application()
    features.set_clock(application, time)
    return application


@pytest.fixture
def ticker(app: web.Application) -> Ticker:
    return Ticker(app)


async def test_it_prepares_once_and_runs_on_repeat(
    app: web.Application, ticker: Ticker, time: clock.ManualClock
) -> None:
    assert not ticker.active
    async with TestServer(app):
        assert ticker.active
        await time.advance(3.5)

    assert (ticker.prepared, ticker.ticks) == (1, [0.0, 1.0, 2.0, 3.0])
    assert not ticker.active


def test_both_methods_must_be_written(app: web.Application) -> None:
    class Half(repeater.RepeaterFeature):
        async def run(self) -> None: ...

    with pytest.raises(TypeError, match='prepare'):
        Half(app)  # type: ignore[abstract]


def test_it_sets_up_the_scheduler(app: web.Application, ticker: Ticker) -> None:
    first, second = features.get_lifecycle(app).features

    assert first is scheduler.get_scheduler(app)
    assert second is ticker


async def test_an_error_in_prepare_is_logged_and_final(
    app: web.Application,
    ticker: Ticker,
    time: clock.ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ticker.on_prepare = fail

    async with TestServer(app):
        await time.advance(100)

        assert not ticker.active
    assert (ticker.prepared, ticker.ticks) == (1, [])
    assert caplog.text.count('ValueError: no sensor') == 1


@pytest.mark.parametrize('where', ['on_prepare', 'on_run'])
async def test_repeater_cancelled_ends_it_quietly(
    app: web.Application,
    ticker: Ticker,
    time: clock.ManualClock,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    setattr(ticker, where, end)

    async with TestServer(app):
        await time.advance(10)

        assert not ticker.active
    assert len(ticker.ticks) == (where == 'on_run')
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_while_it_fails_it_is_tried_after_growing_pauses(
    app: web.Application, ticker: Ticker, time: clock.ManualClock
) -> None:
    ticker.on_run = fail

    async with TestServer(app):
        await time.advance(17)

        assert ticker.active
    assert ticker.ticks == [0.0, 2.0, 6.0, 11.0, 16.0]


@pytest.mark.parametrize('where', ['on_prepare', 'on_run'])
async def test_what_is_cancelled_within_is_an_error_and_no_silent_end(
    app: web.Application,
    ticker: Ticker,
    time: clock.ManualClock,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    setattr(ticker, where, find_cancelled)

    async with TestServer(app):
        await time.advance(3)

        assert ticker.active == (where == 'on_run')
    assert ticker.ticks == ([0.0, 2.0] if where == 'on_run' else [])
    assert caplog.text.count('RuntimeError: what it awaited was cancelled') == 1


async def test_the_first_error_of_a_series_is_logged_and_the_recovery(
    app: web.Application,
    ticker: Ticker,
    time: clock.ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level('INFO', logger='service_scaffold.repeater')
    async with TestServer(app):
        for _ in range(2):
            ticker.on_run = fail
            await time.advance(10)
            ticker.on_run = lambda: None
            await time.advance(10)

    said = [record.levelname for record in caplog.records if 'repeater' in record.name]
    assert said == ['ERROR', 'INFO', 'ERROR', 'INFO']
    assert caplog.text.count('ValueError: no sensor') == 2
    assert 'works again' in caplog.text


async def test_an_outage_of_the_event_bus_is_logged_without_a_traceback(
    app: web.Application,
    ticker: Ticker,
    time: clock.ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def lose() -> None:
        raise errors.PublishError('no broker at amqp://plant:5672')

    ticker.on_run = lose
    async with TestServer(app):
        await time.advance(10)

    [said] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert 'no broker at amqp://plant:5672' in said.getMessage()
    assert said.exc_info is None


async def test_startup_again_restarts_it(
    app: web.Application, ticker: Ticker, time: clock.ManualClock
) -> None:
    async with TestServer(app):
        await time.advance(0)
        await ticker.startup(app)
        await time.advance(0)
        assert ticker.active
        ticker.on_run = end
        await time.advance(1)
        assert not ticker.active

        ticker.on_run = lambda: None
        await ticker.startup(app)
        await time.advance(1)
        assert ticker.active

    assert ticker.prepared == 3


async def test_it_has_ended_before_others_shut_down(app: web.Application, ticker: Ticker) -> None:
    lifecycle = features.get_lifecycle(app)
    await lifecycle.start()

    await lifecycle.before_shutdown()

    assert not ticker.active
    await lifecycle.shutdown()


async def test_a_run_that_never_waits_does_not_stop_everything_else(app: web.Application) -> None:
    class Busy(repeater.RepeaterFeature):
        runs = 0

        async def prepare(self) -> None: ...

        async def run(self) -> None:
            self.runs += 1

    busy = Busy(app)
    async with asyncio.timeout(5), TestServer(app):
        for _ in range(3):
            await asyncio.sleep(0)

    assert busy.runs > 0


async def test_made_after_the_start_it_is_started_by_hand(
    app: web.Application, time: clock.ManualClock
) -> None:
    scheduler.setup(app)
    async with TestServer(app):
        late = Ticker(app)
        assert not late.active
        await late.startup(app)
        await time.advance(0)
        assert late.active

    assert not late.active
