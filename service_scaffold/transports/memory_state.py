"""The state part of the port in memory: latest values by key, and those who follow them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence

from service_scaffold import errors
from service_scaffold.journal.memory_network import Connection
from service_scaffold.transports.state import Change, check_changes

FOLLOWER_LIMIT = 100_000
"""How many changes may wait for one follower, unless a test wants less."""


class StateStore:
    """The values themselves; they outlive every connection.

    Attributes:
        limit: How many changes may wait for one follower before it is cut off.
    """

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.followers: list[_Follower] = []
        self.limit = FOLLOWER_LIMIT

    def put(self, key: str, value: bytes | None) -> None:
        """Store or delete a value and tell the followers."""
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value
        for follower in self.followers:
            follower.add((key, value), self.limit)


class _Follower:
    """One reader's changes that it has not seen."""

    def __init__(self) -> None:
        self.overrun = False
        self.changes: deque[Change] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def add(self, change: Change, limit: int) -> None:
        if len(self.changes) >= limit:
            self.overrun = True
        else:
            self.changes.append(change)
        self.wake()

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done() and not waiter.get_loop().is_closed():
            waiter.set_result(None)

    async def wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class MemoryState:
    """One connection's view of the store."""

    def __init__(self, store: StateStore, connection: Connection) -> None:
        self._store = store
        self._connection = connection
        self._following: list[_Follower] = []

    async def put(self, key: str, value: bytes | None) -> None:
        """Store the value of `key`, None deletes it."""
        await self.put_many([(key, value)])

    async def put_many(self, changes: Sequence[Change]) -> None:
        """Store and delete; see `State.put_many`.

        Raises:
            ValueError: A key is none, or a value is empty; nothing was stored.
            PublishError: `fail_next_publish` has refused some.
            ConnectionLost: The connection has ended; nothing was stored.
        """
        check_changes(changes)
        await asyncio.sleep(0)
        await self._connection.cross()
        refused = []
        for position, (key, value) in enumerate(changes):
            if self._connection.network.refuse():
                refused.append(position)
            else:
                self._store.put(key, value)
        if refused:
            raise errors.PublishError(
                f'{self._connection.network} refuses {changes[refused[0]][0]}',
                phase='confirm',
                maybe_sent=False,
                failed=tuple(refused),
            )

    async def snapshot_then_follow(self) -> AsyncGenerator[Change | None, None]:
        """Yield every stored `(key, value)`, then None once, then each change as it comes.

        Raises:
            ConnectionLost: The connection has ended, or the reader is too slow: start again.
        """
        await self._connection.cross()
        follower = _Follower()
        snapshot = list(self._store.values.items())
        self._store.followers.append(follower)
        self._following.append(follower)
        try:
            for item in snapshot:
                yield item
            yield None
            while True:
                while follower.changes:
                    await self._connection.cross()
                    yield follower.changes.popleft()
                self._connection.check()
                if follower.overrun:
                    raise errors.ConnectionLost(
                        f'The reader of the state on {self._connection.network} fell behind by'
                        f' {self._store.limit} changes'
                    )
                await follower.wait()
        finally:
            self._store.followers.remove(follower)
            self._following.remove(follower)

    def wake(self) -> None:
        """Let the readers notice that the connection has ended."""
        for follower in self._following:
            follower.wake()
