"""What is on its way to the broker: in order, in batches, again after a failure."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from service_scaffold import errors
from service_scaffold.backoff import Backoff
from service_scaffold.clock import Clock

LOGGER = logging.getLogger(__name__)

BATCH = 1000
"""How many records go out at once, at most."""

Change = tuple[str, bytes | None]


@dataclass(eq=False, slots=True)
class Entry:
    """One record on its way.

    Attributes:
        key: Its key at the broker.
        value: The record, None deletes.
        may_go: Asked just before it goes out: raises when it must not.
        done: Resolved by the broker's confirm; None for what nobody waits for.
        waiting: It has not been taken from the outbox; what is not waiting is not sent.
    """

    key: str
    value: bytes | None
    may_go: Callable[[], None]
    done: asyncio.Future[None] | None = None
    waiting: bool = True


class Outbox:
    """Puts records, one batch after another.

    Args:
        send: Puts a batch; returns when the broker has confirmed it, raises a `TransportError` if
            it has not.
        clock: What pauses are measured with.

    Attributes:
        published: Records that were confirmed.
        refused: Attempts of a record that failed.
    """

    def __init__(self, send: Callable[[Sequence[Change]], Awaitable[None]], clock: Clock) -> None:
        self._send = send
        self._clock = clock
        self._entries: deque[Entry] = deque()
        self._posted: dict[str, Entry] = {}
        self._wanted = asyncio.Event()
        self._awake = asyncio.Event()
        self._backoff = Backoff()
        self.published = 0
        self.refused = 0
        self._failures = 0

    def post(self, key: str, value: bytes | None, may_go: Callable[[], None]) -> None:
        """Have a record put some time soon; in place of an older one of that key, if unsent."""
        older = self._posted.pop(key, None)
        if older is not None:
            older.waiting = False
        entry = self._posted[key] = Entry(key, value, may_go)
        self._add(entry)

    async def put(
        self, changes: Sequence[Change], may_go: Callable[[], None], timeout_s: float
    ) -> None:
        """Put records; return when the broker has confirmed all.

        Raises:
            PublishError: (a ConnectionError) It has not, within `timeout_s`.
        """
        loop = asyncio.get_running_loop()
        entries = [Entry(key, value, may_go, loop.create_future()) for key, value in changes]
        for entry in entries:
            self._add(entry)
        self.wake()
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(entry.done for entry in entries if entry.done))
        except TimeoutError:
            unsent = all(entry.waiting for entry in entries)
            raise errors.PublishError(
                f'{changes[0][0]}: not confirmed within {timeout_s:g} s',
                phase='connect' if unsent else 'confirm',
            ) from None
        finally:
            for entry in entries:
                entry.waiting = False

    def wake(self) -> None:
        """Try again now: somebody waits, or there is a new connection."""
        self._awake.set()

    def _add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._wanted.set()

    async def run(self) -> None:
        """Put what comes, until cancelled."""
        while True:
            if not self._entries:
                self._wanted.clear()
                await self._wanted.wait()
            batch = self._next()
            if not batch:
                continue
            self._awake.clear()
            try:
                await self._send([(entry.key, entry.value) for entry in batch])
            except asyncio.CancelledError:
                self._refuse(batch, errors.ConnectionLost('the service has stopped'))
                raise
            except Exception as error:  # noqa: BLE001  # told, and tried again
                self._refuse(self._without_stored(batch, error), error)
                await self._pause()
            else:
                self._confirm(batch)

    async def _pause(self) -> None:
        slept = asyncio.ensure_future(self._clock.sleep(self._backoff.delay(self._failures)))
        woken = asyncio.ensure_future(self._awake.wait())
        try:
            await asyncio.wait({slept, woken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            slept.cancel()
            woken.cancel()

    def _without_stored(self, batch: list[Entry], error: Exception) -> list[Entry]:
        """Confirm what was stored although some were refused; return the others."""
        failed = error.failed if isinstance(error, errors.PublishError) else ()
        if not failed:
            return batch
        stored = [entry for number, entry in enumerate(batch) if number not in set(failed)]
        self.published += len(stored)
        for entry in stored:
            _settle(entry, None)
        return [batch[number] for number in failed]

    def _next(self) -> list[Entry]:
        batch: list[Entry] = []
        while self._entries and len(batch) < BATCH:
            entry = self._entries.popleft()
            if not entry.waiting:
                continue
            entry.waiting = False
            if self._posted.get(entry.key) is entry:
                del self._posted[entry.key]
            try:
                entry.may_go()
            except errors.AssetError as error:
                _settle(entry, error)
            else:
                batch.append(entry)
        return batch

    def _confirm(self, batch: list[Entry]) -> None:
        if self._failures:
            LOGGER.info('Attributes are published again, after %d failures', self._failures)
        self._failures = 0
        self.published += len(batch)
        for entry in batch:
            _settle(entry, None)

    def _refuse(self, batch: list[Entry], error: Exception) -> None:
        """Tell those who wait; keep for the next attempt what nobody waits for."""
        again = [entry for entry in batch if entry.done is None]
        newer = set(self._posted)
        for entry in reversed(again):
            if entry.key not in newer:
                entry.waiting = True
                self._entries.appendleft(entry)
                self._posted[entry.key] = entry
                newer.add(entry.key)
        if not isinstance(error, errors.ScaffoldError | OSError):
            LOGGER.error('Publishing attributes failed unexpectedly', exc_info=error)
        elif not self._failures and again:
            LOGGER.warning('Attributes are not published, will keep trying: %s', error)
        self._failures += 1
        self.refused += len(batch)
        for entry in batch:
            _settle(entry, error)


def _settle(entry: Entry, error: Exception | None) -> None:
    done = entry.done
    if done is None or done.done():
        return
    if error is None:
        done.set_result(None)
        return
    if not isinstance(error, errors.PublishError | errors.AssetError):
        told = errors.PublishError(f'{entry.key}: {error}', phase='send')
        told.__cause__ = error
        error = told
    done.set_exception(error)
    done.exception()
