"""Records on their way out, in order, as soon as they may go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import NamedTuple

from service_scaffold import errors
from service_scaffold.journal.base import NewRecord, Producer
from service_scaffold.streams.refusals import Refused, is_final

BATCH = 5_000


class Passing(NamedTuple):
    """Topics that come and go with others, as those of answers do.

    Attributes:
        here: Those that are there.
        gone: Those that are not; nobody wants anything in them.
    """

    here: Collection[str] = ()
    gone: Collection[str] = ()


Ensure = Callable[[Sequence[str]], Awaitable[Passing]]
"""Makes those of the topics that are ours to make and are missing; tells which are not ours."""

NOWHERE = -1
"""The offset of a record that was not sent."""


class Outbox:
    """Sends what finished events have sent, at once and in batches.

    Attributes:
        error: Why a record was not appended; from then on nothing more is sent.
    """

    def __init__(self, producer: Producer, ensure: Ensure) -> None:
        self._producer = producer
        self._ensure = ensure
        self._records: list[NewRecord] = []
        self._put = 0
        self._sent = 0
        self._fresh = asyncio.Event()
        self._moved = asyncio.Event()
        self.error: Exception | None = None

    def put(self, records: Sequence[NewRecord]) -> None:
        """Send these, after all that was put before."""
        self._records += records
        self._put += len(records)
        self._fresh.set()

    @property
    def mark(self) -> int:
        """How many records were put so far; for `delivered`."""
        return self._put

    @property
    def empty(self) -> bool:
        """Whether the broker has confirmed all of them."""
        return self._sent == self._put

    async def delivered(self, mark: int) -> None:
        """Wait until the first `mark` records are confirmed.

        Raises:
            Exception: What a record, or the connection, has failed with.
        """
        while self._sent < mark and self.error is None:
            self._moved.clear()
            await self._moved.wait()
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Send no more; whoever waits for delivery hears that there will be none."""
        if self.error is None:
            self.error = errors.GenerationEnded('What was sent is given up with its partition')
        self._moved.set()

    async def pump(self) -> None:
        """Send until cancelled, or until something fails."""
        while True:
            await self._fresh.wait()
            self._fresh.clear()
            while self._records:
                batch, self._records = self._records[:BATCH], self._records[BATCH:]
                try:
                    await send_all(self._producer, batch, self._ensure)
                except Exception as error:  # noqa: BLE001 - told to whoever asks for delivery
                    self.error = error
                    self._moved.set()
                    return
                self._sent += len(batch)
                self._moved.set()


async def send_all(producer: Producer, records: Sequence[NewRecord], ensure: Ensure) -> list[int]:
    """Append records; return their offsets, or `NOWHERE` where the topic has gone.

    Raises:
        Refused: One of them would be refused each time.
        PublishError: One of them was not appended.
        ConnectionLost: The connection has ended.
    """
    passing, gone = await ensure(list({record.topic for record in records}))
    kept = [record for record in records if record.topic not in gone] if gone else records
    offsets: list[int] = []
    outcomes = await producer.produce(kept) if kept else ()
    failed: Exception | None = None
    for record, outcome in zip(kept, outcomes, strict=True):
        if not isinstance(outcome, Exception):
            offsets.append(outcome)
        elif is_final(outcome):
            raise Refused(record, outcome)
        else:
            failed = failed or outcome
    if failed is not None:
        raise failed
    if passing:
        producer.forget(passing)
    if gone:
        found = iter(offsets)
        return [NOWHERE if record.topic in gone else next(found) for record in records]
    return offsets
