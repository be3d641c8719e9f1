"""Signs of life over MQTT: a retained message for each one, and the will.

The broker writes the will over the announcement when the connection ends without a good-bye; that
is the quick way. The signs of life are for what wills do not tell: a broker that was killed has
none when it comes back, and who crashed meanwhile would stand as present for ever.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import NoReturn

from service_scaffold import errors
from service_scaffold.transports.leased_presence import Board
from service_scaffold.transports.leases import Leases
from service_scaffold.transports.mqtt_client import Will
from service_scaffold.transports.mqtt_retained import Retained

_LOST = b'-'
"""What the will begins with; a sign of life begins with a plus."""

_KEEPALIVE = 2 / 3
"""Of the lease: the broker publishes the will after half as long again, so after the lease."""


def keepalive_s(lease_s: float) -> int:
    """Return the keep-alive with which the broker notices a loss in one lease."""
    return max(1, int(_KEEPALIVE * lease_s))


class MqttBoard(Board):
    """Signs of life over MQTT.

    Args:
        retained: Messages with an id as their only level.
        keep_s: How long a loss is kept; not everyone comes back under its name.
    """

    def __init__(self, retained: Retained, keep_s: int) -> None:
        self._retained = retained
        self._keep_s = keep_s

    def will(self, id: str, payload: bytes) -> Will:
        """Return the will of one that announces itself."""
        return Will(self._retained.topic(id), _LOST + payload, self._keep_s)

    async def enter(self, id: str, sign: bytes) -> None:
        # Each time retained: the will of an earlier life may come late, and would stay.
        await self._retained.put([(id, sign)])

    async def leave(self, id: str) -> None:
        await self._retained.put([(id, None)])

    async def observe(self, leases: Leases) -> NoReturn:
        async with aclosing(self._retained.read()) as batches:
            async for batch in batches:
                if batch is None:
                    leases.open()
                    continue
                for id, value in batch:
                    if value is None:
                        leases.leave(id)
                    elif value.startswith(_LOST):
                        leases.lose(id, value[1:])
                    else:
                        leases.see(id, value)
        raise errors.ConnectionLost('Presence is read no longer')
