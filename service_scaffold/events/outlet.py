"""The connection that answers and dead letters go out on."""

from __future__ import annotations

import asyncio

from service_scaffold.transports.base import Transport


class Outlet:
    """A listener's connection of the moment, for what handlers leave to be sent.

    It outlives consumers and connections: a message whose subscription has gone, or whose
    connection was lost, comes to its end over the one that there is.
    """

    def __init__(self) -> None:
        self._transport: Transport | None = None
        self._attached = asyncio.Event()

    @property
    def transport(self) -> Transport:
        """The last connection that was made."""
        assert self._transport is not None, 'attached before the first delivery'
        return self._transport

    def attach(self, transport: Transport) -> None:
        """Use this connection from now on; whoever waits for one goes on at once."""
        self._transport = transport
        self._attached.set()
        self._attached = asyncio.Event()

    async def attached(self) -> None:
        """Wait for the next connection."""
        await self._attached.wait()
