"""Who is there, as far as the signs of life tell: one watcher's view."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from service_scaffold.transports.presence import PresenceCallback

LOGGER = logging.getLogger(__name__)

LIMIT = 1.25
"""After this share of its lease one that gives no sign of life is lost. More than the lease, for
signs that come late; less than the 1.5 that are promised, for the time that it takes to tell."""


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of life, as it goes over a broker: it says itself how long the next may take.

    So everyone is judged by its own lease, whatever that of the watcher.

    Attributes:
        lease_s: How long one may be silent after it.
        payload: What it was announced with.
    """

    lease_s: float
    payload: bytes

    def encode(self) -> bytes:
        """Return it as bytes, which begin with a plus sign."""
        return b'+%g ' % self.lease_s + self.payload

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Return what `encode` has written.

        Raises:
            ValueError: It is something else.
        """
        lease, space, payload = value.partition(b' ')
        lease_s = float(lease) if space and value.startswith(b'+') else math.nan
        if not 0 < lease_s < math.inf:
            raise ValueError(f'Not a sign of life: {value[:100]!r}')
        return cls(lease_s, payload)


@dataclass(frozen=True, slots=True)
class Watch:
    """Who wants to know."""

    lost: PresenceCallback
    present: PresenceCallback | None

    def tell(self, id: str, known: _Known) -> None:
        """Say how it stands with an id; what the callback raises harms nobody else."""
        callback = self.lost if known.lost else self.present
        if callback is None:
            return
        try:
            callback(id, known.payload)
        except Exception:
            LOGGER.exception('A watcher of presence failed when it was told of %s', id)


@dataclass(slots=True)
class _Known:
    payload: bytes
    lease_s: float
    until: float
    lost: bool = False


class Leases:
    """Judges from signs of life who is there and who is lost, and tells the watches.

    Nothing is told before `open`: until then what was stored is gathered.

    Args:
        lease_s: How long we ourselves may be silent; of others their signs tell.
        monotonic: The time, in seconds that never go back.
        on_open: Called when the watches have been told how it stands.
    """

    def __init__(
        self,
        lease_s: float,
        monotonic: Callable[[], float],
        on_open: Callable[[], None] = lambda: None,
    ) -> None:
        self._lease_s = lease_s
        self._monotonic = monotonic
        self._on_open = on_open
        self._known: dict[str, _Known] = {}
        self._watches: list[Watch] = []
        self._open = False

    @property
    def shortest_s(self) -> float:
        """The shortest lease of those who are there, ours among them."""
        there = (known.lease_s for known in self._known.values() if not known.lost)
        return min([self._lease_s, *there])

    @property
    def longest_s(self) -> float:
        """The longest lease, ours among them."""
        return max([self._lease_s, *(known.lease_s for known in self._known.values())])

    def watch(self, watch: Watch) -> None:
        """Tell `watch` from now on; if it comes late, first how it stands."""
        self._watches.append(watch)
        if self._open:
            for id, known in list(self._known.items()):
                watch.tell(id, known)

    def open(self) -> None:
        """All that was stored has been seen: say how it stands."""
        if self._open:
            return
        self._open = True
        now = self._monotonic()
        for id, known in list(self._known.items()):
            known.lost = known.lost or known.until <= now
            self._tell(id, known)
        self._on_open()

    def see(self, id: str, value: bytes, age_s: float = 0.0) -> None:
        """Note an encoded `Sign` that was given `age_s` seconds ago."""
        try:
            sign = Sign.decode(value)
        except ValueError as error:
            LOGGER.debug('%s: %s', id, error)
            return
        until = self._monotonic() + LIMIT * sign.lease_s - age_s
        known = self._known.get(id)
        if known is None or known.lost or known.payload != sign.payload:
            known = self._known[id] = _Known(sign.payload, sign.lease_s, until)
            self._tell(id, known)
        else:
            known.lease_s = sign.lease_s
            known.until = max(known.until, until)

    def lose(self, id: str, payload: bytes) -> None:
        """Note that the broker says that one is lost, unless it is there in another life."""
        known = self._known.get(id)
        if known is None:
            known = self._known[id] = _Known(payload, self._lease_s, 0.0)
        elif known.lost or known.payload != payload:
            return
        known.lost = True
        self._tell(id, known)

    def leave(self, id: str) -> None:
        """Note that one has left in good order, of which nobody is told."""
        self._known.pop(id, None)

    def expire(self) -> None:
        """Tell of those whose time is over."""
        now = self._monotonic()
        for id, known in list(self._known.items()):
            if self._open and not known.lost and known.until <= now:
                known.lost = True
                self._tell(id, known)

    def forgive(self, seconds: float) -> None:
        """Give everyone more time: for so long we could not have heard of them."""
        for known in self._known.values():
            known.until += seconds

    def _tell(self, id: str, known: _Known) -> None:
        if self._open:
            for watch in self._watches:
                watch.tell(id, known)
