"""The presence part of the port in memory: who is there, and who has gone without saying so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from service_scaffold.journal.memory_network import Connection

LostCallback = Callable[[str, bytes], None]


class PresenceBoard:
    """What the broker knows: the announced ones, the lost ones, and who wants to know."""

    def __init__(self) -> None:
        self._present: dict[str, tuple[MemoryPresence, bytes]] = {}
        self._lost: dict[str, bytes] = {}
        self._watchers: dict[LostCallback, None] = {}

    def enter(self, id: str, payload: bytes, owner: MemoryPresence) -> None:
        """Note that `id` is there; a later announcement takes an earlier one's place."""
        self._present[id] = owner, payload
        self._lost.pop(id, None)

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
        for watcher in self._watchers:
            asyncio.get_running_loop().call_soon(watcher, id, payload)

    def watch(self, watcher: LostCallback) -> None:
        """Tell `watcher` of those who are lost now, and of those who will be."""
        self._watchers[watcher] = None
        for id, payload in self._lost.items():
            asyncio.get_running_loop().call_soon(watcher, id, payload)

    def unwatch(self, watcher: LostCallback) -> None:
        """Tell `watcher` nothing more."""
        self._watchers.pop(watcher, None)


class MemoryPresence:
    """One connection's announcements and watches."""

    def __init__(self, board: PresenceBoard, connection: Connection) -> None:
        self._board = board
        self._connection = connection
        self._announced: dict[str, bytes] = {}
        self._watches: list[LostCallback] = []

    def announce(self, id: str, payload: bytes) -> None:
        """Say before `connect` what shall be told of us when our connection is lost."""
        self._announced[id] = payload
        if self._connection.up:
            self._board.enter(id, payload, self)

    def watch(self, lost: LostCallback) -> None:
        """Call `lost(id, payload)` for each announced one whose connection is lost.

        That includes those who were lost before and have not come back.
        """
        self._watches.append(lost)
        if self._connection.up:
            self._board.watch(lost)

    async def leave(self, id: str) -> None:
        """Withdraw an announcement: going away is then no loss.

        Raises:
            ConnectionLost: The connection has ended.
        """
        await asyncio.sleep(0)
        await self._connection.cross()
        self._announced.pop(id, None)
        self._board.leave(id, self)

    def connected(self) -> None:
        """The connection is up: make announcements and watches known."""
        for id, payload in self._announced.items():
            self._board.enter(id, payload, self)
        for lost in self._watches:
            self._board.watch(lost)

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
        for lost in self._watches:
            self._board.unwatch(lost)
