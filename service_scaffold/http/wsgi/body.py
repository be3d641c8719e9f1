"""The body of a request, as a WSGI application reads it."""

from __future__ import annotations

import asyncio
import io
from typing import Any, BinaryIO, TypeVar, cast

from aiohttp import web

from service_scaffold.http.wsgi.bridge import Bridge

SMALL = 2**16
"""A body up to this size is received before a thread is taken, so that slow clients hold none."""

_DECODED = frozenset({'gzip', 'deflate', 'br', 'zstd'})


class BodyError(ConnectionResetError):
    """The body cannot be received; the client gets the answer for that, whatever the view does."""


class Receiver:
    """Receives the body of a request, within its limits.

    Args:
        stall_s: How long one read may take.

    Attributes:
        refusal: What the client is answered when the body cannot be received; None while it can.
    """

    def __init__(self, request: web.Request, stall_s: float) -> None:
        self._request = request
        self._stall_s = stall_s
        self._size = 0
        self.refusal: Exception | None = None
        self._check(request.content_length or 0)

    @property
    def is_decoded(self) -> bool:
        """Whether aiohttp decompresses the body, so that its length is unknown."""
        return self._request.headers.get('Content-Encoding', '').lower() in _DECODED

    async def stream(self, bridge: Bridge[Any]) -> BinaryIO:
        """Return the body: received if it is small, else to be read through `bridge`."""
        request = self._request
        if not request.can_read_body:  # there is none, or a middleware has read it
            return io.BytesIO(await request.read())
        length = request.content_length
        if length is not None and length <= SMALL and not self.is_decoded:
            data = bytearray()
            while chunk := await self.receive():
                data += chunk
            return io.BytesIO(data)
        return cast(BinaryIO, io.BufferedReader(_Raw(self, bridge), SMALL))

    async def receive(self) -> bytes:
        """Return what has arrived, waiting for at least a byte; b'' at the end.

        Raises:
            BodyError: It is too large, malformed, or does not come; see `refusal`.
            ConnectionResetError: The client has gone.
        """
        if self.refusal is not None:
            raise BodyError(str(self.refusal))
        try:
            async with asyncio.timeout(self._stall_s):
                chunk: bytes = await self._request.content.readany()
            self._size += len(chunk)
            self._check(self._size)
        except TimeoutError as error:
            self.refusal = _last(web.HTTPRequestTimeout())
            raise BodyError(f'no byte of the body for {self._stall_s:g} s') from error
        except (web.RequestPayloadError, web.HTTPRequestEntityTooLarge) as error:
            self.refusal = error
            raise BodyError(str(error)) from error
        return chunk

    def _check(self, size: int) -> None:
        if is_too_large(self._request, size):
            raise _last(web.HTTPRequestEntityTooLarge(self._request.client_max_size, size))


def is_too_large(request: web.BaseRequest, size: int) -> bool:
    """Tell whether a body of that size is over the limit of the application."""
    limit = request.client_max_size
    return bool(limit) and size > limit


E = TypeVar('E', bound=web.HTTPException)


def _last(refusal: E) -> E:
    """Say with the refusal that nothing more is answered on the connection: the body is in it."""
    refusal.force_close()
    return refusal


class _Raw(io.RawIOBase):
    """Reads through the bridge, no more than the view asks for: the rest waits at the client."""

    def __init__(self, receiver: Receiver, bridge: Bridge[Any]) -> None:
        super().__init__()
        self._receiver = receiver
        self._bridge = bridge
        self._left = memoryview(b'')

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # narrower on purpose
        if not self._left:
            self._left = memoryview(self._bridge.call(self._receiver.receive))
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size
