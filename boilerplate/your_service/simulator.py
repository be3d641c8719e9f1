"""A sensor for when there is none, so that there is something to see."""

from __future__ import annotations

import argparse
import math

from aiohttp import web
from service_scaffold import events, features, repeater

from your_service import monitor
from your_service.readings import SENSORS, Reading

SIMULATED = 'simulated.temperature'
"""The sensor that is not there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; each is also a SERVICE_… variable and a key of the file."""
    group = parser.add_argument_group('simulator')
    group.add_argument(
        '--simulate-after-s',
        type=float,
        default=2,
        help='Seconds without a reading before one is simulated, 0 for never [%(default)s]',
    )
    group.add_argument(
        '--simulate-interval-s',
        type=float,
        default=1,
        help='Seconds between simulated readings [%(default)s]',
    )


class Simulator(repeater.RepeaterFeature):
    """Publishes a temperature that swings around the limit while no other sensor is heard."""

    def __init__(self, app: web.Application) -> None:
        super().__init__(app)
        config = app['config']
        self._after_s: float = config['simulate_after_s']
        self._interval_s: float = config['simulate_interval_s']
        self._limit = monitor.get_monitor(app).limit
        self._heard_at = 0.0
        self._phase = 0.0
        if self._after_s > 0:
            events.get_listener(app).subscribe(SENSORS, '#', on_message=self.hear)

    async def hear(self, subscription: object, sensor: str, reading: Reading) -> None:
        """Take note that there is a real sensor."""
        if sensor != SIMULATED:
            self._heard_at = self.clock.monotonic()

    async def prepare(self) -> None:
        """Begin to wait for a real sensor."""
        if self._after_s <= 0:
            raise repeater.RepeaterCancelled
        self._heard_at = self.clock.monotonic()

    async def run(self) -> None:
        """Publish one reading, or stay quiet as long as there are real ones."""
        silent_s = self.clock.monotonic() - self._heard_at
        if silent_s < self._after_s:
            await self.clock.sleep(self._after_s - silent_s)
            return
        value = round(self._limit + 10 * math.sin(self._phase), 1)
        self._phase += 0.5
        reading = Reading(value=value, unit='C', time=self.clock.time())
        await events.get_publisher(self.app).publish(SENSORS, SIMULATED, reading)
        await self.clock.sleep(self._interval_s)


def setup(app: web.Application) -> None:
    """Give `app` a `Simulator`."""
    features.add(app, Simulator(app))


def get_simulator(app: web.Application | web.Request) -> Simulator:
    """Return the simulator of `app`."""
    return features.get(app, Simulator)
