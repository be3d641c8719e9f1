"""All assets as they are known here: a copy of the brokers' latest values, kept up to date."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator

from service_scaffold import errors
from service_scaffold.assets import record as records
from service_scaffold.assets.record import ABOVE, AVAIL, BELOW, Stored
from service_scaffold.assets.view import View
from service_scaffold.clock import Clock

LOGGER = logging.getLogger(__name__)


def key_of(asset: str, attribute: str) -> str:
    """Return the key of a record at the broker."""
    return f'{asset}/{attribute}'


class Mirror:
    """What is known of every asset.

    Args:
        foreign: Told of each change that came from the broker: asset, attribute, record.
        clock: What losses are dated with, and lateness measured.

    Attributes:
        reading: The broker's values are being read from their beginning.
        views: The assets, by id; some of them unknown but watched.
    """

    def __init__(
        self,
        foreign: Callable[[str, str, Stored | None], None],
        clock: Clock,
    ) -> None:
        self.reading = False
        self.views: dict[str, View] = {}
        self._foreign = foreign
        self._seen: set[str] = set()
        self._present: set[str] = set()
        self._since: dict[str, float] = {}
        self._clock = clock
        self._above: dict[str, set[str]] = defaultdict(set)
        self._below: dict[str, set[str]] = defaultdict(set)

    def view(self, asset: str) -> View:
        """Return what is known of an asset; one of which nothing is known is not kept."""
        view = self.views.get(asset)
        return View(asset) if view is None else view

    def watched(self, asset: str) -> View:
        """Return what is known of an asset, to be watched: it is kept, known or not."""
        return self.views.setdefault(asset, View(asset))

    def let_go(self, asset: str) -> None:
        """Keep nothing of an asset that is not known and not watched."""
        view = self.views.get(asset)
        if view is not None and not view.known and not view.watches:
            del self.views[asset]

    def known(self) -> Iterator[View]:
        """Yield the assets that anything is known of."""
        return (view for view in self.views.values() if view.known)

    # References

    def above(self, asset: str) -> frozenset[str]:
        """Return the assets that `asset` stands below."""
        return frozenset(self._above.get(asset, ()))

    def below(self, asset: str) -> frozenset[str]:
        """Return the assets that stand below `asset`."""
        return frozenset(self._below.get(asset, ()))

    def references_to(self, asset: str) -> list[tuple[str, str]]:
        """Return asset and attribute of every reference that another one has to `asset`."""
        ids = (ABOVE + asset, BELOW + asset)
        return [
            (other, id)
            for other in self.above(asset) | self.below(asset)
            for id in ids
            if id in self.view(other)
        ]

    def _refer(self, asset: str, id: str, there: bool) -> None:
        """Note, on both sides, a reference that has come or gone."""
        above = id.startswith(ABOVE)
        other = id.removeprefix(ABOVE if above else BELOW)
        low, high = (asset, other) if above else (other, asset)
        if there:
            self._above[low].add(high)
            self._below[high].add(low)
        elif ABOVE + high not in self.view(low) and BELOW + low not in self.view(high):
            _drop(self._above, low, high)
            _drop(self._below, high, low)

    # Changes

    def put(self, asset: str, id: str, record: Stored | None) -> bool:
        """Take a record, or drop one; False when a newer one is known."""
        view = self.view(asset) if record is None else self.watched(asset)
        if not view.put(id, record):
            return False
        if id.startswith((ABOVE, BELOW)):
            self._refer(asset, id, record is not None)
        if id == AVAIL:
            self._judge(view)
        if record is None:
            self.let_go(asset)
        return True

    # From the broker

    def begin(self) -> None:
        """Take what comes from now on as the broker's values from their beginning."""
        self.reading = True
        self._seen.clear()

    def take(self, key: str, body: bytes | None) -> None:
        """Take a value from the broker."""
        asset, _, id = key.partition('/')
        record = None
        if body is None:
            self._seen.discard(key)
        else:
            try:
                record = records.decode(body)
            except errors.DecodeError as error:
                LOGGER.warning('Ignoring %s: %s', key, error)
                return
            self._seen.add(key)
        self.put(asset, id, record)
        self._foreign(asset, id, record)

    def end(self) -> dict[str, set[str]]:
        """Return, by asset, the attributes that the broker does not have any more.

        Called when the broker's values have come to their end.
        """
        self.reading = False
        missing = {}
        for view in self.known():
            missing[view.id] = {id for id in view.records if key_of(view.id, id) not in self._seen}
        self._seen.clear()
        return {asset: ids for asset, ids in missing.items() if ids}

    # Presence

    def meet(self) -> None:
        """Forget who is there: it is told anew."""
        self._present.clear()
        self._since.clear()

    def present(self, host: str) -> None:
        """The process `host` is there."""
        self._present.add(host)
        self._turn(host, lost=False)

    def gone(self, host: str) -> None:
        """The process `host` is lost."""
        self._present.discard(host)
        self._turn(host, lost=True)

    def judge(self, before: float) -> None:
        """Take for lost whoever owns an asset since `before`, and has not been seen."""
        for host, since in tuple(self._since.items()):
            if since <= before:
                del self._since[host]
                if host not in self._present:
                    self._turn(host, lost=True)

    def doubt(self) -> None:
        """Give owners that were there before, and have not been seen again, time to show up.

        They may have left while nobody listened here, which counts as no loss.
        """
        for view in tuple(self.known()):
            self._judge(view)

    def _judge(self, view: View) -> None:
        """An asset has a new word on its owner."""
        if view.host in self._present:
            self._mark(view, lost=False)
        elif view.available:
            self._since.setdefault(view.host, self._clock.monotonic())

    def _turn(self, host: str, *, lost: bool) -> None:
        for view in tuple(self.known()):
            if view.host == host:
                self._mark(view, lost=lost)

    def _mark(self, view: View, *, lost: bool) -> None:
        was = view.available
        if not lost:
            view.lost_at = None
        elif view.lost_at is None:
            view.lost_at = self._clock.time()
        if view.available != was:
            view.tell(AVAIL)


def _drop(sides: dict[str, set[str]], asset: str, other: str) -> None:
    if asset in sides:
        sides[asset].discard(other)
        if not sides[asset]:
            del sides[asset]
