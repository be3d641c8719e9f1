"""Signs of life over Kafka: a compacted topic of one partition, with the broker's own times.

Who begins to watch appends a record, too, and compares: by the broker's clock it knows at once
how old the last sign of each one is, whatever the clocks of the machines say.
"""

from __future__ import annotations

import secrets
from contextlib import aclosing
from typing import NoReturn

from service_scaffold import errors
from service_scaffold.journal.base import NewRecord, Record
from service_scaffold.transports.kafka_state import RecordTopic
from service_scaffold.transports.leased_presence import Board
from service_scaffold.transports.leases import Leases

PRESENCE_CONFIG = {
    # Deleted, too: not every instance that was lost comes back under its name.
    'cleanup.policy': 'compact,delete',
    'message.timestamp.type': 'LogAppendTime',
    # A reader meets the signs of life of about as long.
    'segment.ms': '600000',
    'segment.bytes': str(4 * 1024 * 1024),
    'min.cleanable.dirty.ratio': '0.1',
}


class KafkaBoard(Board):
    """Signs of life over Kafka."""

    def __init__(self, topic: RecordTopic) -> None:
        self._topic = topic

    async def enter(self, id: str, sign: bytes) -> None:
        await self._append(id.encode(), sign)

    async def leave(self, id: str) -> None:
        await self._append(id.encode(), None)

    async def observe(self, leases: Leases) -> NoReturn:
        marker = f'/{secrets.token_hex(8)}'.encode()  # no id: it has a slash
        await self._append(marker, None)
        stored: dict[bytes, Record] = {}
        opened = False
        async with aclosing(self._topic.read()) as batches:
            async for batch in batches:
                if batch is None and marker not in stored:
                    break  # the topic was made anew meanwhile
                if batch is None:
                    _tell(stored, stored[marker].timestamp, leases)
                    leases.open()
                    opened = True
                elif opened:
                    for record in batch:
                        _note(record, leases, 0.0)
                else:
                    stored.update({record.key or b'': record for record in batch})
        raise errors.ConnectionLost(f'{self._topic.name} is read no longer')

    async def _append(self, key: bytes, value: bytes | None) -> None:
        await self._topic.partitions()
        await self._topic.append([NewRecord(self._topic.name, value, key, (), 0)])


def _tell(stored: dict[bytes, Record], now: int, leases: Leases) -> None:
    for record in stored.values():
        _note(record, leases, max(0.0, (now - record.timestamp) / 1000))


def _note(record: Record, leases: Leases, age_s: float) -> None:
    id = (record.key or b'').decode('utf-8', 'replace')
    if record.value is None:
        leases.leave(id)
    else:
        leases.see(id, record.value, age_s)
