"""Server-sent events: an asset's attributes, then each change, to one client."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

import msgspec
from aiohttp import web

from service_scaffold.assets.proxy import AssetProxy
from service_scaffold.assets.record import Attribute, Kind
from service_scaffold.assets.watching import BUFFER

ALIVE_S = 15.0
"""How often a comment is sent when nothing changes, so that nobody in between hangs up."""
_HEADERS = {'Cache-Control': 'no-cache', 'X-Accel-Buffering': 'no'}


class Follower:
    """One client that follows an asset.

    A client that does not keep up is disconnected; it connects again, and gets the present state.

    Args:
        asset: What it follows.
        attribute: The only attribute that matters.
        kind: The only kind that matters.
    """

    def __init__(self, asset: AssetProxy, attribute: str | None, kind: str | None) -> None:
        self._asset = asset
        self._attribute = attribute
        self._kind = cast('Kind | None', kind)
        self._waiting: asyncio.Queue[Attribute] = asyncio.Queue(BUFFER)
        self._overrun = asyncio.Event()

    async def send_to(self, request: web.Request, stopping: asyncio.Event) -> web.StreamResponse:
        """Send until the client goes, falls behind, or `stopping` is set."""
        response = web.StreamResponse(headers=_HEADERS)
        response.content_type = 'text/event-stream'
        response.charset = 'utf-8'
        watch = self._asset.subscribe(self._note, attribute=self._attribute, kind=self._kind)
        present = [
            one
            for one in self._asset.attributes(self._kind).values()
            if self._attribute in (None, one.id)
        ]
        ending: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(event.wait()) for event in (stopping, self._overrun)
        ]
        try:
            await response.prepare(request)
            sending = asyncio.ensure_future(self._send(response, present))
            ending.append(sending)
            await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                with contextlib.suppress(ConnectionError):  # the client has gone
                    sending.result()
        finally:
            watch.close()
            for one in ending:
                one.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
        transport = request.transport
        if transport is not None and transport.get_write_buffer_size():
            transport.abort()  # it does not read, so it would not read a good-bye either
        return response

    def _note(self, attribute: Attribute) -> None:
        try:
            self._waiting.put_nowait(attribute)
        except asyncio.QueueFull:
            self._overrun.set()

    async def _send(self, response: web.StreamResponse, present: list[Attribute]) -> None:
        events = present
        while True:
            await response.write(b''.join(map(_event, events)) or b': alive\n\n')
            events = []
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ALIVE_S):
                    events.append(await self._waiting.get())
            while not self._waiting.empty():
                events.append(self._waiting.get_nowait())


def _event(attribute: Attribute) -> bytes:
    return b'event: attribute\ndata: ' + msgspec.json.encode(attribute) + b'\n\n'
