"""Bare transports in a test, for the parts of the port that applications do not see."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from service_scaffold import transports
from service_scaffold.testing.conformance.inbox import WAIT_S, eventually
from service_scaffold.transports.address import Address
from service_scaffold.transports.base import Settings, Transport
from service_scaffold.transports.presence import Presence
from service_scaffold.transports.state import Change, State

T = TypeVar('T')


def state_of(transport: Transport) -> State:
    """Return the state part, which must be there."""
    assert transport.state is not None, 'the transport has no state'
    return transport.state


def presence_of(transport: Transport) -> Presence:
    """Return the presence part, which must be there."""
    assert transport.presence is not None, 'the transport has no presence'
    return transport.presence


class Connections:
    """Makes connections to one broker, and closes them at the end.

    Args:
        url: Where the broker is.
        namespace: What they share, unless a test wants another.
        lease_s: After which silence somebody is lost.
    """

    def __init__(self, url: str, namespace: str, lease_s: float) -> None:
        self._url = url
        self._namespace = namespace
        self._lease_s = lease_s
        self._made: list[Transport] = []

    def make(
        self,
        role: str = 'reader',
        namespace: str | None = None,
        lease_s: float | None = None,
    ) -> Transport:
        """Return a transport that is not connected yet."""
        settings = Settings(
            Address.parse(self._url),
            name=self._namespace,
            role=role,
            namespace=self._namespace if namespace is None else namespace,
            lease_s=self._lease_s if lease_s is None else lease_s,
        )
        transport = transports.open_transport(settings)
        self._made.append(transport)
        return transport

    async def open(self, role: str = 'reader', namespace: str | None = None) -> Transport:
        """Return a transport that is connected."""
        return await self.connect(self.make(role, namespace))

    async def connect(self, transport: Transport) -> Transport:
        """Connect, within the limit that the supervisor would set."""
        async with asyncio.timeout(transport.settings.connect_timeout_s):
            await transport.connect()
        return transport

    async def close(self) -> None:
        """Close all that were made."""
        await asyncio.gather(*(transport.close() for transport in self._made))


class Following:
    """A reader of a state, step by step."""

    def __init__(self, state: State) -> None:
        self._changes = state.snapshot_then_follow()

    async def next(self) -> Change | None:
        """Return what comes next, None for the end of the snapshot."""
        async with asyncio.timeout(WAIT_S):
            return await anext(self._changes)

    async def take(self, count: int) -> list[Change | None]:
        """Return the next `count`."""
        return [await self.next() for _ in range(count)]

    async def snapshot(self) -> dict[str, bytes | None]:
        """Return all up to the end of the snapshot; each key comes once."""
        found: dict[str, bytes | None] = {}
        while (change := await self.next()) is not None:
            assert change[0] not in found, f'{change[0]} came twice'
            found[change[0]] = change[1]
        return found

    async def until(self, wanted: Callable[[Change], bool]) -> list[Change]:
        """Return the changes up to the first that is wanted."""
        found: list[Change] = []
        while not found or not wanted(found[-1]):
            change = await self.next()
            assert change is not None, 'the snapshot ended twice'
            found.append(change)
        return found

    async def close(self) -> None:
        """End reading."""
        await self._changes.aclose()


@contextlib.asynccontextmanager
async def following(transport: Transport) -> AsyncGenerator[Following, None]:
    """Read the state of a connection while the context lasts."""
    reader = Following(state_of(transport))
    try:
        yield reader
    finally:
        await reader.close()


class Seen:
    """What one watcher was told, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, bytes]] = []

    def watch(self, transport: Transport) -> Seen:
        """Begin to watch with a connection."""
        presence_of(transport).watch(
            lambda id, payload: self.calls.append(('lost', id, payload)),
            lambda id, payload: self.calls.append(('present', id, payload)),
        )
        return self

    def of(self, id: str) -> list[tuple[str, bytes]]:
        """Return what was told of one id."""
        return [(what, payload) for what, name, payload in self.calls if name == id]

    async def until(self, id: str, *calls: tuple[str, bytes], timeout_s: float = WAIT_S) -> None:
        """Wait until exactly `calls` were told of an id."""
        try:
            await eventually(lambda: self.of(id) == list(calls), timeout_s)
        except TimeoutError:
            raise AssertionError(f'told of {id}: {self.of(id)}, not {list(calls)}') from None

    async def last(self, id: str, call: tuple[str, bytes], timeout_s: float = WAIT_S) -> None:
        """Wait until the last that was told of an id is `call`."""
        await eventually(lambda: self.of(id)[-1:] == [call], timeout_s)
