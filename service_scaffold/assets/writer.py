"""The one writer of an asset: its records in order, under an epoch that no older owner has."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec

from service_scaffold import errors
from service_scaffold.assets import record as records
from service_scaffold.assets.mirror import Mirror, key_of
from service_scaffold.assets.outbox import Change, Outbox
from service_scaffold.assets.record import ABOVE, AVAIL, BELOW, Kind, Stored

LOGGER = logging.getLogger(__name__)

Made = Mapping[str, Stored | None]
"""Records by the attribute's id; None removes it."""


class Surroundings(Protocol):
    """What a writer asks of the feature it belongs to."""

    mirror: Mirror
    outbox: Outbox
    publish_timeout_s: float
    host: str

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None: ...

    def time(self) -> float: ...


class Writer:
    """Publishes the records of one asset, and notices when it is not its owner any more.

    Args:
        surroundings: What it writes to.
        id: The asset's id.
        on_fenced: Called once when a newer owner has taken over.

    Attributes:
        epoch: When the asset was claimed, in microseconds; 0 while it is not.
        fenced: A newer owner has taken over.
        sent: Something of this epoch has gone out, and may have arrived.
        own: The latest record of each attribute that was published in this epoch.
    """

    def __init__(self, surroundings: Surroundings, id: str, on_fenced: Callable[[], None]) -> None:
        self.epoch = 0
        self.fenced = False
        self.sent = False
        self.own: dict[str, Stored] = {}
        self._heard: dict[str, tuple[int, int]] = {}  # what the broker had last, by its own word
        self._forgetting = False
        self._id = id
        self._around = surroundings
        self._on_fenced = on_fenced
        self._seq = 0
        self._lock = threading.Lock()  # records are assigned from any thread

    @property
    def writing(self) -> bool:
        """Whether it is the asset's owner."""
        return bool(self.epoch) and not self.fenced

    def begin(self) -> None:
        """Claim the asset: what is written from now on is newer than all that is known."""
        known = self._around.mirror.view(self._id).records.values()
        last = max((record.epoch for record in known), default=0)
        with self._lock:
            self.epoch = max(int(self._around.time() * 1e6), last + 1)
            self._seq, self.fenced, self.sent = 0, False, False
            self.own.clear()
        self._heard.clear()
        self._forgetting = False

    def end(self) -> None:
        """Write nothing more."""
        self.epoch = 0

    def check(self) -> None:
        """Refuse to write as somebody who is not the owner.

        Raises:
            Fenced: A newer owner has taken over.
            AssetUnavailable: The asset is not open.
        """
        if self.fenced:
            raise errors.AssetFenced(
                f'{self._id} has a newer owner; nothing is published from here any more'
            )
        if not self.epoch or self._forgetting:
            raise errors.AssetUnavailable(f'{self._id} is not open, so nothing can be set')

    def make(self, value: Any, kind: Kind, tag: str = '', **more: str) -> Stored:
        """Return a new record; to be put at once, as records are ordered by when they were made."""
        with self._lock:
            return self._make(value, kind, tag, **more)

    def _make(self, value: Any, kind: Kind, tag: str, **more: str) -> Stored:
        self._seq += 1
        return Stored(value, kind, self._around.time(), self.epoch, self._seq, tag, **more)

    # Writing

    async def put(self, made: Made) -> None:
        """Publish records; return when the broker has confirmed them.

        Raises:
            Fenced: A newer owner has taken over.
            PublishError: (a ConnectionError) The broker has not confirmed them in time.
        """
        changes: list[Change] = [
            (key_of(self._id, id), None if record is None else records.encode(record))
            for id, record in made.items()
        ]
        await self.put_raw(changes)
        for id, record in made.items():
            if record is None:
                self.own.pop(id, None)
            else:
                self._note(id, record)
            self._around.mirror.put(self._id, id, record)

    def _note(self, id: str, record: Stored) -> None:
        """Note a record of this epoch as the latest, if it is."""
        with self._lock:
            own = self.own.get(id)
            if record.epoch == self.epoch and (own is None or own.order < record.order):
                self.own[id] = record

    async def put_raw(self, changes: list[Change]) -> None:
        """Publish what need not be this asset's; raises what `put` does."""
        await self._around.outbox.put(changes, self._may_go, self._around.publish_timeout_s)

    def post(self, id: str, record: Stored) -> None:
        """Publish a record some time soon, after all that is on its way."""
        self._around.mirror.put(self._id, id, record)
        self._around.outbox.post(key_of(self._id, id), records.encode(record), self._may_go)

    def assign(self, id: str, value: Any, kind: Kind, tag: str) -> None:
        """Publish a record some time soon, from any thread; the newest unsent one wins."""
        with self._lock:
            record = self.own[id] = self._make(value, kind, tag)
        loop = self._around.loop
        if loop is None:
            return
        if asyncio._get_running_loop() is loop:
            self._post(id, record)
        else:
            loop.call_soon_threadsafe(self._post, id, record)

    def _post(self, id: str, record: Stored) -> None:
        """Publish what was assigned, in the loop's thread."""
        with self._lock:
            if self.own.get(id) is not record:
                return  # a newer one follows
            if record.seq < self._seq:  # what was made since is on its way before it
                self._seq += 1
                record = self.own[id] = msgspec.structs.replace(record, seq=self._seq)
        self.post(id, record)

    def latest(self, id: str) -> Stored | None:
        """Return the record of an attribute, as new as what was assigned; None: not of here."""
        return self.own.get(id) if self.writing else None

    def _may_go(self) -> None:
        if self.fenced:
            self.check()
        self.sent = True

    # What the broker has

    def restore(self, id: str | None = None) -> None:
        """Publish again what the broker has lost or is about to, one attribute or all."""
        if not self.writing:
            return
        for name in tuple(self.own) if id is None else (id,):
            record = self.own.get(name)
            if record is not None:
                self.post(name, record)

    @contextmanager
    def forgetting(self) -> Iterator[None]:
        """Let go of every record: what is removed meanwhile is not published again.

        When that fails, all of them are: some may have been removed.
        """
        own, self.own, self._forgetting = self.own, {}, True
        try:
            yield
        except BaseException:
            self.own, self._forgetting = {**own, **self.own}, False
            self.restore()
            raise

    def lacks(self, missing: set[str]) -> set[str]:
        """Publish again what the broker has lost; return which attributes it is.

        A reference that is missing while our availability is not was taken back by the other side.
        """
        lost = missing & set(self.own) if self.writing else set()
        if AVAIL not in missing:
            for id in tuple(lost):
                if id.startswith((ABOVE, BELOW)):
                    lost.discard(id)
                    del self.own[id]
        for id in lost:
            self.restore(id)
        return lost

    def take(self, id: str, record: Stored | None, *, reading: bool) -> None:
        """A record of this asset has come from the broker.

        Args:
            reading: The broker's values are being read from their beginning.
        """
        if not self.writing:
            return
        if record is None:
            self._heard.pop(id, None)
            if id.startswith((ABOVE, BELOW)):  # taken back from the other side
                self.own.pop(id, None)
            else:
                self.restore(id)
        elif record.epoch > self.epoch or self._is_rival(id, record):
            self._fence()
        elif record.epoch < self.epoch:
            self.restore(id)
        else:
            self._hear(id, record, reading)

    def _is_rival(self, id: str, record: Stored) -> bool:
        """Return whether another process has claimed the asset at the same time, and may keep it.

        That takes two clocks behind the one of the owner before.
        """
        return id == AVAIL and record.epoch == self.epoch and record.host > self._around.host

    def _hear(self, id: str, record: Stored, reading: bool) -> None:
        """One of our own has come back: usually the latest, or one before it."""
        last, self._heard[id] = self._heard.get(id), record.order
        own = self.own.get(id)
        if own is None or own.order < record.order:
            if not self._forgetting:
                self._note(id, record)  # it was stored, though nobody could confirm that
        elif record.order < own.order and (reading or (last and record.order < last)):
            self.restore(id)  # an older one was repeated after it

    def _fence(self) -> None:
        self.fenced = True
        LOGGER.critical(
            '%s has a newer owner: nothing is published or answered from here any more', self._id
        )
        self._on_fenced()
