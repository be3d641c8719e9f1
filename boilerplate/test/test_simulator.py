"""The sensor that is not there."""

from __future__ import annotations

import pytest
from aiohttp import web
from conftest import Follow, Until
from msgspec import json
from service_scaffold import features, testing

from your_service.monitor import Monitor
from your_service.readings import SENSORS, Reading
from your_service.simulator import SIMULATED, get_simulator


@pytest.fixture
def options() -> list[str]:
    return ['--simulate-after-s=0.2', '--simulate-interval-s=0.02']


@pytest.fixture
def sensor() -> str:
    return SIMULATED


async def test_without_sensors_readings_and_an_alert_are_simulated(
    monitor: Monitor, until: Until
) -> None:
    await until(lambda: SIMULATED in monitor.readings and SIMULATED in monitor.alerts)


class TestOnAClockMovedByHand:
    @pytest.fixture
    def options(self) -> list[str]:
        return ['--simulate-after-s=10']

    @pytest.fixture
    def app(self, app: web.Application, manual_clock: testing.ManualClock) -> web.Application:
        features.set_clock(app, manual_clock)
        return app

    async def test_a_real_sensor_silences_it_for_a_while(
        self, app: web.Application, follow: Follow, manual_clock: testing.ManualClock
    ) -> None:
        next_reading = await follow(SENSORS)

        await manual_clock.advance(9)
        await get_simulator(app).hear(None, 'boiler.temperature', Reading(21.5))
        await manual_clock.advance(9)
        await manual_clock.advance(1)

        first = json.decode(await next_reading(), type=Reading)
        assert first.time == 19
