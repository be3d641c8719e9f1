"""Keeps readings, raises alerts, answers queries."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections import deque

from aiohttp import web
from service_scaffold import events, features

from your_service.readings import ALERTS, QUERIES, SENSORS, Alert, Query, Reading

LOGGER = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; each is also a SERVICE_… variable and a key of the file."""
    group = parser.add_argument_group('monitor')
    group.add_argument('--limit', type=float, default=80, help='Alert above this [%(default)s]')
    group.add_argument(
        '--history', type=int, default=100, help='Readings kept of each sensor [%(default)s]'
    )


class Monitor(features.ServiceFeature):
    """What this service knows.

    Attributes:
        readings: The history of each sensor, oldest first.
        alerts: The last alert of each sensor.
        changed: Notified after each reading and each alert.
    """

    def __init__(self, app: web.Application) -> None:
        super().__init__(app)
        config = app['config']
        self.limit: float = config['limit']
        self.history: int = config['history']
        self.readings: dict[str, deque[Reading]] = {}
        self.alerts: dict[str, Alert] = {}
        self.changed = asyncio.Condition()

        # Two subscriptions to the same readings, as there are two kinds of work. What is shown
        # must be known to every instance: a live view. What is done must be done once, by any of
        # them, and not be lost in a crash: a group, here of all instances with the same name.
        group = config['name']
        listener = events.get_listener(app)
        listener.subscribe(SENSORS, '#', on_message=self.remember)
        listener.subscribe(SENSORS, '#', on_message=self.watch, group=group)
        listener.subscribe(ALERTS, '#', on_message=self.remember_alert)
        listener.subscribe(QUERIES, 'latest', on_message=self.answer, group=group, reply=True)

    async def startup(self, app: web.Application) -> None:
        """Nothing to do: the listener starts the subscriptions."""

    async def shutdown(self, app: web.Application) -> None:
        """Nothing to do: the listener has stopped before."""

    def latest(self, sensor: str) -> Reading | None:
        """Return the last reading of a sensor, None when it has sent none."""
        found = self.readings.get(sensor)
        return found[-1] if found else None

    async def remember(self, subscription: object, sensor: str, reading: Reading) -> None:
        """Keep a reading."""
        self.readings.setdefault(sensor, deque(maxlen=self.history)).append(reading)
        await self._notify()

    async def watch(self, subscription: object, sensor: str, reading: Reading) -> None:
        """Publish an alert when a reading passes the limit, up or down, and only then.

        A group delivers at least once: after a crash an alert may come again. It tells a state,
        so that does no harm.
        """
        known = self.alerts.get(sensor)
        raised = reading.value > self.limit
        if raised == (known is not None and known.state == 'raised'):
            return
        alert = Alert(sensor, 'raised' if raised else 'cleared', reading.value, self.limit)
        LOGGER.warning('Alert %s: %s is at %g', alert.state, sensor, alert.value)
        await events.get_publisher(self.app).publish(ALERTS, sensor, alert)
        # Not left to the live view: the next reading may be here before it.
        await self.remember_alert(subscription, sensor, alert)

    async def remember_alert(self, subscription: object, sensor: str, alert: Alert) -> None:
        """Keep an alert, whichever instance has published it."""
        known = self.alerts.get(sensor)
        if known is None or known.time < alert.time:
            self.alerts[sensor] = alert
            await self._notify()

    async def answer(self, subscription: object, key: str, query: Query) -> Reading | None:
        """Answer `publisher.request('queries', 'latest', {'sensor': …})`."""
        return self.latest(query.sensor)

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()


def setup(app: web.Application) -> None:
    """Give `app` a `Monitor`."""
    features.add(app, Monitor(app))


def get_monitor(app: web.Application | web.Request) -> Monitor:
    """Return the monitor of `app`."""
    return features.get(app, Monitor)
