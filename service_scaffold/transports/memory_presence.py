"""The presence part of the port in memory: who is there, and who has gone without saying so."""

from __future__ import annotations

import asyncio
import logging

from service_scaffold.journal.memory_network import Connection
from service_scaffold.transports.presence import PresenceCallback
from service_scaffold.transports.state import check_part

LOGGER = logging.getLogger(__name__)


class _Watch:
    """Two callbacks, called on a later turn of the event loop, in order."""

    def __init__(self, lost: PresenceCallback, present: PresenceCallback | None) -> None:
        self._lost = lost
        self._present = present
        self._ended = False

    def present(self, id: str, payload: bytes) -> None:
        if self._present is not None:
            self._soon(self._present, id, payload)

    def lost(self, id: str, payload: bytes) -> None:
        self._soon(self._lost, id, payload)

    def end(self) -> None:
        self._ended = True

    def _soon(self, callback: PresenceCallback, id: str, payload: bytes) -> None:
        asyncio.get_running_loop().call_soon(self._call, callback, id, payload)

    def _call(self, callback: PresenceCallback, id: str, payload: bytes) -> None:
        if self._ended:
            return
        try:
            callback(id, payload)
        except Exception:
            LOGGER.exception('A watcher of presence failed when it was told of %s', id)


class PresenceBoard:
    """What the broker knows: the announced ones, the lost ones, and who wants to know."""

    def __init__(self) -> None:
        self._present: dict[str, tuple[MemoryPresence, bytes]] = {}
        self._lost: dict[str, bytes] = {}
        self._watches: dict[_Watch, None] = {}

    def enter(self, id: str, payload: bytes, owner: MemoryPresence) -> None:
        """Note that `id` is there; a later announcement takes an earlier one's place."""
        known = self._present.get(id)
        self._present[id] = owner, payload
        self._lost.pop(id, None)
        if known is None or known[1] != payload:
            for watch in self._watches:
                watch.present(id, payload)

    def leave(self, id: str, owner: MemoryPresence) -> None:
        """Forget `id`, unless another connection has announced it since."""
        if id in self._present and self._present[id][0] is owner:
            del self._present[id]
        elif id not in self._present:
            self._lost.pop(id, None)

    def lose(self, id: str, owner: MemoryPresence) -> None:
        """Tell the watchers that `id` has gone, unless another connection has announced it."""
        if id not in self._present or self._present[id][0] is not owner:
            return
        payload = self._lost[id] = self._present.pop(id)[1]
        for watch in self._watches:
            watch.lost(id, payload)

    def watch(self, watch: _Watch) -> None:
        """Tell `watch` how it stands now, and what changes."""
        self._watches[watch] = None
        for id, (_, payload) in self._present.items():
            watch.present(id, payload)
        for id, payload in self._lost.items():
            watch.lost(id, payload)

    def unwatch(self, watch: _Watch) -> None:
        """Tell `watch` nothing more."""
        watch.end()
        self._watches.pop(watch, None)


class MemoryPresence:
    """One connection's announcements and watches; see `Presence`."""

    def __init__(self, board: PresenceBoard, connection: Connection) -> None:
        self._board = board
        self._connection = connection
        self._announced: dict[str, bytes] = {}
        self._watches: list[_Watch] = []

    def announce(self, id: str, payload: bytes) -> None:
        """Say that `id` is there; lost in the moment in which the connection is."""
        check_part(id)
        self._announced[id] = payload
        if self._connection.up:
            self._board.enter(id, payload, self)

    def watch(self, lost: PresenceCallback, present: PresenceCallback | None = None) -> None:
        """Tell how it stands with each id, now and from now on."""
        watch = _Watch(lost, present)
        self._watches.append(watch)
        if self._connection.up:
            self._board.watch(watch)

    async def caught_up(self) -> None:
        """Return when the watchers have been told how it stood when they began.

        Raises:
            ConnectionLost: The connection has ended.
        """
        await asyncio.sleep(0)
        await self._connection.cross()

    async def leave(self, id: str) -> None:
        """Withdraw an announcement: going away is then no loss.

        Raises:
            ConnectionLost: The connection has ended.
        """
        await asyncio.sleep(0)
        await self._connection.cross()
        if self._announced.pop(id, None) is not None:
            self._board.leave(id, self)

    def connected(self) -> None:
        """The connection is up: make announcements and watches known."""
        for id, payload in self._announced.items():
            self._board.enter(id, payload, self)
        for watch in self._watches:
            self._board.watch(watch)

    def closed(self) -> None:
        """The connection was closed in good order, which is no loss."""
        self._unwatch()
        for id in self._announced:
            self._board.leave(id, self)

    def lost(self) -> None:
        """The connection was lost: let the others know."""
        self._unwatch()
        for id in self._announced:
            self._board.lose(id, self)

    def _unwatch(self) -> None:
        for watch in self._watches:
            self._board.unwatch(watch)
