"""Errors as JSON problems (RFC 9457), without internals unless `--debug`."""

from __future__ import annotations

import http
import json
import logging
import traceback
from collections.abc import Mapping

from aiohttp import web

from service_scaffold import errors, options

LOGGER = logging.getLogger(__name__)

CONTENT_TYPE = 'application/problem+json'

CLIENT_GONE = 499
"""What a request counts as whose client has not waited for the answer; nobody is sent it."""

_STATUS_BY_ERROR: tuple[tuple[type[BaseException], int], ...] = (
    (web.RequestPayloadError, 400),
    (errors.TransportError, 503),
    (TimeoutError, 504),
)
_BODY_HEADERS = ('Content-Type', 'Content-Length', 'Content-Encoding', 'Transfer-Encoding')


class ProblemError(web.HTTPException):
    """Raise it in a handler to answer with a problem that has more members than aiohttp's errors.

    Args:
        status: HTTP status, 400 to 599.
        detail: What is wrong with this request; shown to the client.
        headers: Further headers of the response.
        members: Further members of the problem; JSON values.
    """

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **members: object,
    ) -> None:
        if not 400 <= status <= 599:
            raise ValueError(f'a problem has a status from 400 to 599, not {status}')
        self.status_code = status
        super().__init__(
            headers=headers,
            text=_body(status, detail, members).decode(),
            content_type=CONTENT_TYPE,
        )
        self.charset = None  # JSON has none


def response(
    status: int,
    detail: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    **members: object,
) -> web.Response:
    """Return a problem as a response; `ProblemError` is the same to be raised."""
    return web.Response(
        status=status,
        headers=headers,
        body=_body(status, detail, members),
        content_type=CONTENT_TYPE,
    )


def from_http_exception(error: web.HTTPException) -> web.Response:
    """Return the response for an HTTP exception of aiohttp; status, headers and cookies stay.

    A body with a type of its own stays too: only aiohttp's plain text becomes a problem.
    """
    keeps_body = error.status < 400 or error.empty_body or error.content_type != 'text/plain'
    headers = error.headers.copy()
    if keeps_body:
        answer = web.Response(
            status=error.status, reason=error.reason, headers=headers, body=error.body
        )
    else:
        for name in _BODY_HEADERS:
            headers.popall(name, None)
        standard = f'{error.status}: {error.reason}'
        detail = error.text if error.text != standard else None
        answer = web.Response(
            status=error.status,
            reason=error.reason,
            headers=headers,
            body=_body(error.status, detail, {}),
            content_type=CONTENT_TYPE,
        )
    answer.cookies.update(error.cookies)
    if error.keep_alive is False:
        answer.force_close()
    return answer


def from_error(
    request: web.BaseRequest, error: Exception, *, debug: bool, status: int | None = None
) -> web.Response:
    """Log an exception that a handler let through, once, and return the response for it.

    A body that cannot be received is a 400, a broker that is away a 503, a limit that ran out a
    504, anything else a 500 (logged with its traceback). A client that leaves in the middle of a
    stream is no failure of ours. With `debug` the problem holds type, text and traceback of the
    exception, without the credentials of URLs.

    Args:
        status: Answer with this one, whatever the exception.
    """
    status = status or next(
        (code for kind, code in _STATUS_BY_ERROR if isinstance(error, kind)), 500
    )
    path = request.rel_url.raw_path  # as it was sent: decoded, it may hold line breaks
    if _has_gone(request) and _is_of_connection(error):
        LOGGER.debug('%s %s: the client has gone', request.method, path)
        return web.Response(status=CLIENT_GONE)
    if status == 500:
        LOGGER.error('%s %s failed', request.method, path, exc_info=error)
    else:
        LOGGER.warning('%s %s failed: %r', request.method, path, error)
    if request.writer.output_size:
        # A stream that has begun cannot become a problem. Closing it unfinished is the only way
        # left to tell the client; what is returned here is never sent.
        if request.transport is not None:
            request.transport.close()
        return web.Response(status=status)
    if not debug:
        return response(status)
    return response(
        status,
        options.mask_text(str(error)),
        exception=type(error).__name__,
        traceback=[options.mask_text(line) for line in traceback.format_exception(error)],
    )


def _has_gone(request: web.BaseRequest) -> bool:
    return request.transport is None or request.transport.is_closing()


def _is_of_connection(error: Exception) -> bool:
    # A write that waits for the client gets the bare class; those of brokers are its subclasses.
    return isinstance(error, ConnectionResetError) or type(error) is ConnectionError


def title(status: int) -> str:
    """Return the standard phrase of an HTTP status."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return 'Error'


def _body(status: int, detail: str | None, members: Mapping[str, object]) -> bytes:
    problem: dict[str, object] = {'type': 'about:blank', 'title': title(status), 'status': status}
    if detail:
        problem['detail'] = detail
    problem.update(members)
    return json.dumps(problem).encode()
