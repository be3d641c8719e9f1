"""The outermost middleware: what surrounds every request, in one place because it is on its way.

Preflights, forwarded headers, duration and problems are one coroutine and not four: on a small
request each further middleware costs about as much as what it does.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from service_scaffold.http import problems
from service_scaffold.http.cors import CORS, Cors
from service_scaffold.http.forwarded import FORWARDED, Forwarded

Observe = Callable[[web.Request, int, float], None]


def setup(
    app: web.Application, cors: Cors, forwarded: Forwarded, observe: Observe, *, debug: bool
) -> None:
    """Put CORS, forwarded headers, durations and problems around everything in `app`.

    Args:
        observe: Told of each request with its status and seconds, until the head of a plain
            response, or the end of a streamed one.
    """
    app[CORS] = cors
    app[FORWARDED] = forwarded

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        forwarded.prepare(request, response)
        cors.prepare(request, response)

    # Not in the middleware: streams are sent before it ends.
    app.on_response_prepare.append(prepare)
    app.middlewares.insert(0, _middleware(cors, forwarded, observe, debug))


def _check(answer: object) -> None:
    if isinstance(answer, web.HTTPException):
        raise answer  # returned or raised, an error becomes a problem
    if not isinstance(answer, web.StreamResponse):
        raise TypeError(f'the handler returned {answer!r}, which is no response')


def _middleware(cors: Cors, forwarded: Forwarded, observe: Observe, debug: bool) -> Middleware:
    @web.middleware
    async def front(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = perf_counter()
        answer: web.StreamResponse | None = None
        if request.method == 'OPTIONS':
            answer = cors.preflight(request)
        if answer is None:
            try:
                answer = await handler(forwarded.apply(request))
                if type(answer) is not web.Response:  # which most are
                    _check(answer)
            except web.HTTPException as error:
                answer = problems.from_http_exception(error)
            except Exception as error:  # noqa: BLE001  # logged there, with its traceback
                answer = problems.from_error(request, error, debug=debug)
        observe(request, answer.status, perf_counter() - started)
        return answer

    return front
