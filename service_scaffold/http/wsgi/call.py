"""One call of a WSGI application, from start to close, in its thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from service_scaffold.http.wsgi.bridge import Bridge, Gone
from service_scaffold.http.wsgi.reply import Head, Outcome, Stream, Whole

LOGGER = logging.getLogger(__name__)

ExcInfo = tuple[type[BaseException], BaseException, TracebackType]
WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Call:
    """Runs a WSGI application once, and sends what it gives through the bridge.

    It ends the bridge with a `Whole`, with the `Head` of what was streamed, or with the exception
    that the application, or sending, has raised.
    """

    def __init__(
        self,
        wsgi_app: WSGIApp,
        environ: dict[str, Any],
        bridge: Bridge[Outcome],
        stream: Stream,
    ) -> None:
        self._wsgi_app = wsgi_app
        self._environ = environ
        self._bridge = bridge
        self._stream = stream
        self._head: Head | None = None
        self._sent = 0
        self._begun = False  # to stream
        self._whole = False  # and sent at once
        self._sated = False  # nothing that the application still gives is sent

    def run(self) -> None:
        """Call the application, send its response, close it. Raises nothing."""
        result: Iterable[bytes] = ()
        try:
            result = self._wsgi_app(self._environ, self._start_response)
            self._send_all(result)
            self._finish()
        except BaseException as error:  # noqa: BLE001  # SystemExit, too: a view ends no service
            self._fail(error)
        finally:
            self._close(result)

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None:
            try:
                if self._begun or self._whole:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # it would be a cycle
        elif self._head is not None:
            raise RuntimeError('start_response was called again, without exc_info')
        self._head = Head.parse(status, headers)
        return self._write

    def _send_all(self, result: Iterable[bytes]) -> None:
        only = _is_single(result)
        for data in result:
            # PEP 3333 forbids to hold back a block while the next is awaited; but a body that is
            # complete goes out at once, and what the application does after it delays nobody.
            if data and not self._begun and not self._whole and self._is_all(data, only):
                self._bridge.end(Whole(self._needed(), data))
                self._whole = True
                self._sent = len(data)
                continue
            self._write(data)
            if self._sated:
                return

    def _is_all(self, data: bytes, only: bool) -> bool:
        length = self._needed().length
        return (
            isinstance(data, bytes)
            and (len(data) == length or (only and length is None))
            and self._has_body()
        )

    def _write(self, data: bytes) -> None:
        """Send a block; the `write` that `start_response` returns, too."""
        if not isinstance(data, bytes):
            raise TypeError(f'a WSGI application gives bytes, not {type(data).__name__}')
        if not data:
            return
        head = self._needed()
        if not self._has_body():
            self._sated = True
            return
        self._sent += len(data)
        if head.length is not None and self._sent > head.length:
            excess = self._sent - head.length
            self._sent = head.length
            self._sated = True
            LOGGER.error('%s: %d bytes more than its Content-Length', self._path, excess)
            data = data[:-excess]
        if data and not self._whole:
            self._begun = True
            self._bridge.call(self._stream.write, head, data)

    def _finish(self) -> None:
        head = self._needed()
        if not self._has_body():
            self._bridge.end(head)
            return
        missing = (head.length or 0) - self._sent
        if missing > 0:
            raise RuntimeError(f'{missing} bytes less than its Content-Length')
        self._bridge.end(head if self._begun else Whole(head, b''))

    def _has_body(self) -> bool:
        return self._needed().has_body(self._environ['REQUEST_METHOD'])

    def _needed(self) -> Head:
        if self._head is None:
            raise RuntimeError('start_response was not called')
        return self._head

    def _fail(self, error: BaseException) -> None:
        if not self._bridge.end(error) and not isinstance(error, Gone):
            LOGGER.error('%s failed after its response', self._path, exc_info=error)

    def _close(self, result: Iterable[bytes]) -> None:
        close = getattr(result, 'close', None)
        if close is None:
            return
        try:
            close()
        except BaseException as error:  # the response is out; it is logged
            LOGGER.error('close() of %s failed', self._path, exc_info=error)

    @property
    def _path(self) -> str:
        """What the log calls it: without the query, which may hold credentials."""
        path, _, _ = self._environ['REQUEST_URI'].partition('?')
        return f'{self._environ["REQUEST_METHOD"]} {path}'


def _is_single(result: Iterable[bytes]) -> bool:
    try:
        return len(result) == 1  # type: ignore[arg-type]  # most have no length
    except TypeError:
        return False
