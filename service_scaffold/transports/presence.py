"""The presence part of the port: who is there, and who has gone without saying so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

PresenceCallback = Callable[[str, bytes], None]
"""Takes an id and the payload that it was announced with; quick, and on the event loop."""


class Presence(Protocol):
    """Who is there, and who has gone without saying so.

    An id stands for one process, as the service's instance does: not for each of its assets. Its
    payload tells one life of it from the next (an epoch). Whoever has announced itself counts as
    lost when its process was killed, stopped (SIGSTOP), hangs, or has no network, for
    `Settings.lease_s`: every watcher is told within 1.5 times that, on every transport.
    """

    def announce(self, id: str, payload: bytes) -> None:
        """Say that `id` is there, from `connect` on, until `leave` or `close`.

        Announced before `connect`, it is known to the broker when `connect` returns. May also be
        called later, or again with another payload: it is then known soon. The difference counts
        with MQTT: its will is fixed at `connect` and names one id, the first; of this one a crash
        is told at once, of others after the lease. Two that announce the same id at a time (one
        of them should not) are told of in turn.

        Raises:
            ValueError: The id is none, see `check_part`.
        """

    def watch(self, lost: PresenceCallback, present: PresenceCallback | None = None) -> None:
        """Tell how it stands with each id, now and from now on; may be called before `connect`.

        For each id the last call says how it stands. `lost` is also called for those who were
        lost while nobody watched, and have not come back. It is not called for one that left in
        good order, nor for an older life of one that is there with another payload. After
        `leave` nothing is called.

        Args:
            lost: Called once for each loss, with the payload of who is lost.
            present: Called for each one that is there, and when it comes, comes back, or
                announces another payload.
        """

    async def caught_up(self) -> None:
        """Return when the watchers have been told how it stood when they began.

        Who was lost shortly before may still count as present, until its lease is over.

        Raises:
            ConnectionLost: The connection has ended.
        """

    async def leave(self, id: str) -> None:
        """Withdraw an announcement: going away is then no loss. `close` does so for all.

        Raises:
            ConnectionLost: The connection has ended; the id will count as lost.
        """
