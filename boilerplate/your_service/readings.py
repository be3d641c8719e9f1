"""What goes over the bus: three exchanges, three types.

The routing key is the sensor, `boiler.temperature` for example: on MQTT that is the topic
`sensors/boiler/temperature`, on Kafka a record of topic `sensors` with that key.
"""

from __future__ import annotations

import time
from typing import Literal

import msgspec

SENSORS = 'sensors'
"""Exchange of `Reading`, published by sensors."""

ALERTS = 'alerts'
"""Exchange of `Alert`, published by this service."""

QUERIES = 'queries'
"""Exchange of `Query`: requests that this service answers."""


class Reading(msgspec.Struct, omit_defaults=True):
    """One value that a sensor has measured: `{"value": 91.5, "unit": "C"}`.

    Anything else is refused before a handler sees it, and kept in `sensors.dlq`.
    """

    value: float
    unit: str = ''
    time: float = msgspec.field(default_factory=time.time)
    """Epoch seconds; the time of arrival where the sensor sends none."""


class Alert(msgspec.Struct):
    """A sensor has passed its limit, or has come back."""

    sensor: str
    state: Literal['raised', 'cleared']
    value: float
    limit: float
    time: float = msgspec.field(default_factory=time.time)


class Query(msgspec.Struct):
    """Asks for the latest reading of a sensor; the answer is a `Reading`, or null."""

    sensor: str
