"""The thread that says what blocks the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest

from service_scaffold.streams.driver import drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.watchdog import Watchdog

LIMIT_S = 0.1
LOGGER = 'service_scaffold.streams.watchdog'


async def test_the_line_that_blocks_is_named(caplog):
    """A warning has file, function and stack; another one tells that it is over."""
    watchdog = Watchdog(LIMIT_S)
    with caplog.at_level(logging.WARNING, LOGGER):
        watchdog.start()
        time.sleep(5 * LIMIT_S)  # noqa: ASYNC251 - this is what is to be noticed
        await asyncio.sleep(2 * LIMIT_S)
        watchdog.stop()
    blocked, over = caplog.messages
    assert 'test_watchdog.py' in blocked.splitlines()[0]
    assert 'test_the_line_that_blocks_is_named' in blocked.splitlines()[0]
    assert 'time.sleep(5 * LIMIT_S)' in blocked
    assert 'runs again' in over


async def test_a_loop_that_runs_is_left_in_peace(caplog):
    """Waiting is not blocking."""
    watchdog = Watchdog(0.5)
    with caplog.at_level(logging.DEBUG, LOGGER):
        watchdog.start()
        await asyncio.sleep(0.7)
        watchdog.stop()
    assert caplog.messages == []


async def test_stopped_it_leaves_no_thread():
    """Start and stop, as often as one likes."""
    before = threading.active_count()
    watchdog = Watchdog(LIMIT_S)
    for _ in range(2):
        watchdog.start()
        assert threading.active_count() == before + 1
        watchdog.stop()
        watchdog.stop()
        assert threading.active_count() == before


@pytest.mark.parametrize('limit_s', [LIMIT_S, None])
async def test_an_agent_that_blocks_is_named(caplog, limit_s):
    """The worker watches its loop, unless it is told not to; the event is handled all the same."""
    app = Topology(StreamSettings('shop', blocking_s=limit_s))
    orders = app.topic('orders', partitions=1)
    done = []

    @app.agent(orders)
    async def block(stream):
        async for value in stream:
            time.sleep(4 * LIMIT_S)  # noqa: ASYNC251 - this is what is to be noticed
            done.append(value)

    with caplog.at_level(logging.WARNING, LOGGER):
        async with drive(app) as t:
            await t.send(orders, 1)
            await t.settle()
            await asyncio.sleep(LIMIT_S)
    assert done == [1]
    told = [message for message in caplog.messages if 'test_watchdog.py' in message]
    assert len(told) == (0 if limit_s is None else 1)
