"""Where a WSGI application stands among the routes of an aiohttp application."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import copy_context
from functools import partial

from aiohttp import web
from aiohttp.web_urldispatcher import PrefixResource, ResourceRoute, UrlMappingMatchInfo
from yarl import URL

from service_scaffold.http import prefix as prefixes
from service_scaffold.http import problems
from service_scaffold.http.wsgi import environ
from service_scaffold.http.wsgi.body import Receiver, is_too_large
from service_scaffold.http.wsgi.bridge import Bridge, Gone
from service_scaffold.http.wsgi.call import Call, WSGIApp
from service_scaffold.http.wsgi.reply import Outcome, Stream, Whole
from service_scaffold.http.wsgi.threads import WSGIThreads, threads_of


def mount(app: web.Application, prefix: str, wsgi_app: WSGIApp) -> Mount:
    """Serve a WSGI application under `prefix`, before `service.furnish(app)`.

    It gets every request below, whatever the method, that no route of `app` takes. As always in
    aiohttp, the route with the longest fixed beginning is asked first; of two with the same, the
    native one.

    Args:
        prefix: As in `/site`; '' or `/` is everything. The prefix of the service stands before it.
        wsgi_app: Called in a thread, so it must be safe for several.

    Raises:
        ValueError: `prefix` is not a path prefix, or has been given to another one.
        TypeError: `wsgi_app` cannot be called.
        RuntimeError: The application has started.
    """
    if not callable(wsgi_app):
        raise TypeError(f'not a WSGI application: {wsgi_app!r}')
    mounted = Mount(prefixes.normalise(prefix), wsgi_app, threads_of(app))
    others = [one for one in app.router.resources() if isinstance(one, Mount)]
    if any(one.canonical == mounted.canonical for one in others):
        raise ValueError(f'a WSGI application is mounted at {mounted.canonical!r} already')
    app.router.register_resource(mounted)

    async def make_last(app: web.Application) -> None:
        # Of its prefix, now that all resources are there and have theirs.
        app.router.unindex_resource(mounted)
        app.router.index_resource(mounted)

    app.on_startup.append(make_last)
    return mounted


class _Route(ResourceRoute):
    async def handle_expect_header(self, request: web.Request) -> web.StreamResponse | None:
        """Ask for a body whose sender waits for that, unless it will be refused."""
        if is_too_large(request, request.content_length or 0):
            return None
        return await super().handle_expect_header(request)


class Mount(PrefixResource):
    """The resource of a mounted WSGI application."""

    def __init__(self, prefix: str, wsgi_app: WSGIApp, threads: WSGIThreads) -> None:
        super().__init__(prefix)
        self._wsgi_app = wsgi_app
        self._threads = threads
        self._route = _Route('*', self._handle, self)
        self._path = self._decoded()

    def add_prefix(self, prefix: str) -> None:
        super().add_prefix(prefix)
        self._path = self._decoded()

    @property
    def canonical(self) -> str:
        """Its prefix, `/` for everything; the router looks for it as it is in decoded paths."""
        return self._path or '/'

    async def resolve(self, request: web.Request) -> tuple[UrlMappingMatchInfo | None, set[str]]:
        path = request.rel_url.path_safe
        if path == self._path or path.startswith(f'{self._path}/'):
            return UrlMappingMatchInfo({}, self._route), set()
        return None, set()

    def url_for(self, **parts: str) -> URL:
        """Return its root; the URLs below are made by the WSGI application."""
        return URL.build(path=self._prefix or '/', encoded=True)

    def get_info(self) -> dict[str, str]:  # type: ignore[override]  # all that we have of it
        return {'prefix': self._prefix}

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        yield self._route

    def _decoded(self) -> str:
        return URL.build(path=self._prefix, encoded=True).path_safe

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        settings = self._threads.settings
        receiver = Receiver(request, settings.stall_s)
        bridge: Bridge[Outcome] = Bridge()
        try:
            body = await receiver.stream(bridge)
        except ConnectionResetError:
            if receiver.refusal is not None:
                raise receiver.refusal from None
            raise
        environment = environ.make(request, self._prefix, body, is_decoded=receiver.is_decoded)
        stream = Stream(request, settings.stall_s)
        call = Call(self._wsgi_app, environment, bridge, stream)
        try:
            await self._start(request, call)
            result = await bridge.serve()
        finally:
            bridge.close()
        if receiver.refusal is not None and not request.writer.output_size:
            raise receiver.refusal
        if isinstance(result, Whole):
            return result.response(settings.stall_s)
        if isinstance(result, BaseException):
            return self._failed(request, result)
        return await stream.finish(result)

    async def _start(self, request: web.Request, call: Call) -> None:
        try:
            await self._threads.acquire()
        except TimeoutError as error:
            raise problems.ProblemError(
                503, 'All threads are busy.', headers={'Retry-After': '1'}
            ) from error
        if request.transport is None or request.transport.is_closing():
            self._threads.release()
            raise Gone('the client has left while it waited for a thread')
        self._threads.start(partial(copy_context().run, call.run))

    def _failed(self, request: web.Request, error: BaseException) -> web.StreamResponse:
        if isinstance(error, Gone):
            raise error
        if not isinstance(error, Exception):
            wrapped = RuntimeError(f'{type(error).__name__} in a WSGI application')
            wrapped.__cause__ = error
            error = wrapped
        return problems.from_error(request, error, debug=self._threads.settings.debug, status=500)
