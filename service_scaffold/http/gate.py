"""The port before the application has started: it is ours, and says so.

aiohttp serves an application only after its `on_startup`. Orchestrators want an answer earlier: a
port that is taken must end the start before anything else begins, and readiness must be seen to be
false while features start. So the sockets are bound first and served by the gate; when the
application has started, new connections go to it. The listeners stay the same for the whole life:
a listener that is closed loses the connections that it is just accepting. Connections that the
gate has accepted it answers to their end.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator, Sequence

from aiohttp import web

from service_scaffold import features
from service_scaffold.http import health, problems
from service_scaffold.http.cors import Cors

BACKLOG = 1024


def bind(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets for every address of `host`.

    Args:
        port: 0 is any free one, the same for all addresses.

    Raises:
        OSError: Another process has it, or it cannot be used; names host and port.
    """
    sockets: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            if sockets and port == 0:
                address = (address[0], sockets[0].getsockname()[1])
            try:
                sockets.append(socket.create_server(address, family=family, backlog=BACKLOG))
            except OSError as error:
                # A name like localhost may have an IPv6 address on a machine without IPv6.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
        if not sockets:
            raise OSError(errno.EADDRNOTAVAIL, 'no such address on this machine')
    except OSError as error:
        for bound in sockets:
            bound.close()
        # Those of name look-up are negative, and have no other text than their own.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror or str(error)
        raise OSError(error.errno, f'Cannot listen on {show(host, port)}: {reason}') from error
    return sockets


def bind_path(path: str) -> socket.socket:
    """Return a listening Unix socket; one that a dead process has left there is replaced.

    Raises:
        OSError: Another process listens there, or it cannot be used; names the path.
    """
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.exists(path) and _is_dead(path):
            os.unlink(path)
        bound.bind(path)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f'Cannot listen on unix://{path}: {error.strerror}') from error
    return bound


def _is_dead(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def url_of(bound: socket.socket) -> str:
    """Return the URL of a listening socket."""
    if bound.family == socket.AF_UNIX:
        return f'unix://{bound.getsockname()}'
    return f'http://{show(*bound.getsockname()[:2])}'


def show(host: str, port: int) -> str:
    """Return `host:port` as it stands in a URL."""
    return f'[{host}]:{port}' if ':' in host else f'{host}:{port}'


class Gate:
    """Serves sockets: by itself until the application can, then by the application.

    Args:
        sockets: Bound and listening; they belong to the gate from `open` on.
        prefix: Path prefix of the service.
        cors: Adds its headers, as it does later.
    """

    def __init__(
        self,
        lifecycle: features.Lifecycle,
        sockets: Sequence[socket.socket],
        prefix: str = '',
        cors: Cors | None = None,
    ) -> None:
        self._lifecycle = lifecycle
        self._sockets = sockets
        self._paths = {f'{base}{health.PATH}' for base in ('', prefix)}
        self._cors = cors
        self._web = web.Server(self._handle)
        self._serving = self._web
        self._listeners: list[asyncio.Server] = []

    async def open(self) -> None:
        """Begin to answer."""
        loop = asyncio.get_running_loop()
        for bound in self._sockets:
            self._listeners.append(
                await loop.create_server(lambda: self._serving(), sock=bound, backlog=BACKLOG)
            )

    def admit(self, application: web.Server) -> None:
        """Let the application serve the connections that are made from now on."""
        self._serving = application

    async def close(self) -> None:
        """Accept no more connections, and end those that the gate itself still serves."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._web.pre_shutdown()
        await self._web.shutdown(timeout=0.2)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        answer: web.Response | None = None
        if self._cors is not None and request.method == 'OPTIONS':
            answer = self._cors.preflight(request)
        if answer is None:
            answer = self._answer(request)
        if self._cors is not None:
            self._cors.prepare(request, answer)
        answer.force_close()  # the next request is for the application
        return answer

    def _answer(self, request: web.BaseRequest) -> web.Response:
        base, _, name = request.path.rpartition('/')
        if base in self._paths and request.method in ('GET', 'HEAD'):
            if name == 'live':
                return health.live()
            if name == 'status':
                return health.status(self._lifecycle)
        return problems.response(503, 'The service is starting.', headers={'Retry-After': '1'})


def _addresses(host: str, port: int) -> Iterator[tuple[socket.AddressFamily, tuple[str, int]]]:
    seen = set()
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError as error:  # as for an empty label
        raise socket.gaierror(socket.EAI_NONAME, 'no such name') from error
    for family, _, _, _, address in found:
        if (family, address[0]) not in seen:
            seen.add((family, address[0]))
            yield family, (str(address[0]), port)
