"""The state part of the port on MQTT: a retained message for each value."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from service_scaffold.transports.mqtt_retained import Retained
from service_scaffold.transports.state import Change, check_changes, folded


class MqttState:
    """See `State`.

    Args:
        retained: Messages with the two parts of a key as levels.
    """

    def __init__(self, retained: Retained) -> None:
        self._retained = retained

    async def put(self, key: str, value: bytes | None) -> None:
        """Store the value of `key`, None deletes it."""
        await self.put_many([(key, value)])

    async def put_many(self, changes: Sequence[Change]) -> None:
        """Store and delete, all on their way at once; returns when all is confirmed."""
        check_changes(changes)
        await self._retained.put(changes)

    def snapshot_then_follow(self) -> AsyncGenerator[Change | None, None]:
        """Yield what is stored, then None once, then each change as it comes."""
        return folded(self._retained.read(), iter)
