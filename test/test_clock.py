"""Tests of `service_scaffold.clock`."""

from __future__ import annotations

import asyncio
import time

import pytest

from service_scaffold import clock


async def test_system_clock_tells_the_machines_time() -> None:
    system = clock.SystemClock()

    assert abs(system.time() - time.time()) < 1
    assert abs(system.monotonic() - time.monotonic()) < 1


@pytest.mark.parametrize('delay_s', [0, -1])
async def test_sleeping_no_time_only_yields(delay_s: float) -> None:
    turns: list[str] = []
    asyncio.get_running_loop().call_soon(turns.append, 'other')

    await clock.ManualClock().sleep(delay_s)
    await clock.SystemClock().sleep(delay_s)

    assert turns == ['other']


async def test_manual_clock_wakes_each_sleeper_at_its_own_time() -> None:
    manual = clock.ManualClock(start=100.0)
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, delay_s: float) -> None:
        await manual.sleep(delay_s)
        woken.append((name, manual.time()))

    async with asyncio.TaskGroup() as group:
        for name, delay_s in (('late', 5.0), ('early', 1.0), ('same', 5.0)):
            group.create_task(sleeper(name, delay_s))
        await manual.advance(10.0)

    assert woken == [('early', 101.0), ('late', 105.0), ('same', 105.0)]
    assert manual.time() == 110.0
    assert manual.monotonic() == 10.0


async def test_manual_clock_stands_still_until_it_is_advanced() -> None:
    manual = clock.ManualClock()
    task = asyncio.create_task(manual.sleep(2.0))

    await manual.advance(1.9)
    assert not task.done()
    assert manual.next_due == 2.0
    await manual.advance(0.1)

    assert task.done()
    assert manual.next_due is None


async def test_who_sleeps_again_is_woken_within_one_advance() -> None:
    manual = clock.ManualClock()
    ticks: list[float] = []

    async def ticker() -> None:
        while True:
            await manual.sleep(1.0)
            ticks.append(manual.time())

    task = asyncio.create_task(ticker())
    await manual.advance(3.5)
    task.cancel()
    await asyncio.wait({task})

    assert ticks == [1.0, 2.0, 3.0]


async def test_cancelled_sleeper_is_forgotten() -> None:
    manual = clock.ManualClock()
    task = asyncio.create_task(manual.sleep(1.0))
    await manual.advance(0)

    task.cancel()
    await asyncio.wait({task})

    assert manual.next_due is None


async def test_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match='go back'):
        await clock.ManualClock().advance(-1)
