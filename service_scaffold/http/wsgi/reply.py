"""The response of a WSGI application: its head, and how it goes to the client."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self
from wsgiref.util import is_hop_by_hop

from aiohttp import web
from multidict import CIMultiDict

from service_scaffold.http.wsgi.bridge import Gone
from service_scaffold.http.wsgi.patience import Patience

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile(r'[\x00-\x08\x0a-\x1f\x7f]')


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of a response.

    Attributes:
        length: Of the body, as the application has declared it; None if it has not.
    """

    status: int
    reason: str
    headers: CIMultiDict[str]
    length: int | None

    @classmethod
    def parse(cls, status: str, headers: list[tuple[str, str]]) -> Self:
        """Take the arguments of `start_response`.

        Raises:
            ValueError: They are none of a response.
        """
        code, _, reason = status.partition(' ')
        if len(code) != 3 or not code.isdecimal() or not '200' <= code <= '999':
            raise ValueError(f'{status!r} is no status; write it as in "200 OK"')
        if _CONTROL.search(reason):
            raise ValueError(f'a control character in the status {status!r}')
        found: CIMultiDict[str] = CIMultiDict()
        for name, value in headers:
            # Here, as aiohttp finds it only when it can answer nothing else any more.
            if not _NAME.fullmatch(name) or _CONTROL.search(value):
                raise ValueError(f'not a header, or a control character in it: {name!r}')
            if not is_hop_by_hop(name):  # they are between the client and us
                found.add(name, _text(value))
        length = found.get('Content-Length')
        if length is not None and not length.isdecimal():
            raise ValueError(f'Content-Length {length!r} is no number')
        return cls(int(code), reason, found, None if length is None else int(length))

    def has_body(self, method: str) -> bool:
        """Tell whether a response to `method` has a body."""
        return method != 'HEAD' and self.status not in (204, 304)


@dataclass(frozen=True, slots=True)
class Whole:
    """A response whose body is known at once."""

    head: Head
    body: bytes

    def response(self, stall_s: float) -> web.Response:
        """Return it for aiohttp to send, to a client that may take nothing for `stall_s`."""
        return _WholeResponse(self, stall_s)


class _WholeResponse(web.Response):
    def __init__(self, whole: Whole, stall_s: float) -> None:
        head = whole.head
        super().__init__(
            status=head.status, reason=head.reason, headers=head.headers, body=whole.body
        )
        self._stall_s = stall_s

    async def write_eof(self, data: bytes = b'') -> None:
        if self._req is None:  # it is out
            return
        with Patience(self._req, self._stall_s):
            await super().write_eof(data)


Outcome = Whole | Head | BaseException
"""How a call ends: with a response, with the head of what was streamed, or failed."""


class Stream:
    """A response that is sent as it comes.

    Args:
        stall_s: How long the client may take nothing of what was sent.
    """

    def __init__(self, request: web.Request, stall_s: float) -> None:
        self._request = request
        self._stall_s = stall_s
        self._response: web.StreamResponse | None = None

    async def write(self, head: Head, data: bytes) -> None:
        """Send `data`, after the head if it is the first; return when there is room for more.

        Raises:
            Gone: The client has left, or takes nothing.
        """
        try:
            with Patience(self._request, self._stall_s):
                response = await self._begun(head)
                await response.write(data)
        except ConnectionError as error:
            raise Gone('the client has left') from error
        if self._request.transport is None:  # aborted, as it took nothing
            raise Gone(f'the client has taken nothing for {self._stall_s:g} s')

    async def finish(self, head: Head) -> web.StreamResponse:
        """Send what is left to be sent, and return the response."""
        with Patience(self._request, self._stall_s):
            response = await self._begun(head)
            await response.write_eof()
        return response

    async def _begun(self, head: Head) -> web.StreamResponse:
        if self._response is None:
            response = web.StreamResponse(
                status=head.status, reason=head.reason, headers=head.headers
            )
            await response.prepare(self._request)
            self._response = response
        return self._response


def _text(value: str) -> str:
    """Return the bytes that a WSGI text stands for, as a text that aiohttp sends as these bytes."""
    if value.isascii():
        return value
    try:
        return value.encode('latin-1').decode('utf-8')
    except UnicodeError:  # aiohttp sends UTF-8 and nothing else
        return value
