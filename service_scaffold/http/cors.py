"""Cross-origin requests: which pages of other origins a browser lets call this service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiohttp import web

METHODS = 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS'
MAX_AGE_S = 600
"""How long a browser may remember the answer to a preflight."""

CORS: web.AppKey[Cors] = web.AppKey('service_scaffold.cors')
PAGES: web.AppKey[dict[object, Cors]] = web.AppKey('service_scaffold.cors.pages')
"""Handlers whose resource has rules of its own, which then hold instead."""
_ORIGIN = 'Access-Control-Allow-Origin'


class Cors:
    """Answers preflights and puts the CORS headers on every response, streams and errors included.

    Args:
        origins: Origins that may call, as `https://app.example`; `*` is any, without credentials
            (cookies, HTTP authentication). Listed origins may send credentials.
        pages: Rules of single handlers, which then hold instead.
    """

    def __init__(self, origins: Iterable[str], pages: Mapping[object, Cors] | None = None) -> None:
        listed = frozenset(origins)
        self._pages = pages if pages is not None else {}
        self.any_origin = '*' in listed
        self.origins = listed - {'*'}

    def preflight(self, request: web.BaseRequest) -> web.Response | None:
        """Return the answer to a preflight, or None when `request` is none.

        The route is not asked: a browser must learn of a 404 or 405 from the request itself.
        """
        requested = request.headers.get('Access-Control-Request-Method')
        if requested is None or 'Origin' not in request.headers:
            return None
        headers = {
            'Access-Control-Allow-Methods': METHODS,
            'Access-Control-Max-Age': str(MAX_AGE_S),
            'Vary': 'Access-Control-Request-Headers',
        }
        if wanted := request.headers.get('Access-Control-Request-Headers'):
            headers['Access-Control-Allow-Headers'] = wanted
        return web.Response(status=204, headers=headers)

    def prepare(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Add the headers, just before the head of the response is sent."""
        if self._pages and (own := self._pages.get(_handler(request))) is not None:
            own.prepare(request, response)
            return
        headers = response.headers
        if not self.origins:
            if self.any_origin:
                headers.setdefault(_ORIGIN, '*')
            return
        if _ORIGIN in headers:
            return
        origin = request.headers.get('Origin')
        if origin is not None and origin in self.origins:
            headers[_ORIGIN] = origin
            headers['Access-Control-Allow-Credentials'] = 'true'
        elif self.any_origin:
            headers[_ORIGIN] = '*'
        # Without it a cache would give one origin's answer to another.
        headers.add('Vary', 'Origin')


def _handler(request: web.BaseRequest) -> object:
    return request.match_info.handler if isinstance(request, web.Request) else None


def pages_of(app: web.Application) -> dict[object, Cors]:
    """Return the rules of single handlers of an application, to be added to."""
    if PAGES not in app:
        app[PAGES] = {}
    return app[PAGES]
