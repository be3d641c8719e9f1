"""Pages: functions and classes that answer HTTP requests of a streams application."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiohttp import web

from service_scaffold import codecs
from service_scaffold.http import cors, problems

METHODS = ('GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'SEARCH')

Body = bytes
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Web:
    """Makes the answers of pages: the first argument of a page's function.

    Args:
        app: The application that serves the page.
    """

    def __init__(self, app: web.Application) -> None:
        self.app = app

    def json(
        self,
        value: Any,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        content_type: str = 'application/json',
    ) -> web.Response:
        """Return a value as JSON; records, dataclasses, dates and UUIDs included.

        Raises:
            EncodeError: JSON cannot express it.
        """
        body = codecs.lookup(content_type).encode(value)
        return web.Response(body=body, status=status, headers=headers, content_type=content_type)

    def text(
        self,
        value: str,
        *,
        content_type: str = 'text/plain',
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> web.Response:
        """Return a text."""
        return web.Response(text=value, content_type=content_type, status=status, headers=headers)

    def html(
        self, value: str, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> web.Response:
        """Return a page of HTML."""
        return self.text(value, content_type='text/html', status=status, headers=headers)

    def bytes(
        self,
        value: Body,
        *,
        content_type: str = 'application/octet-stream',
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> web.Response:
        """Return bytes as they are."""
        return web.Response(body=value, content_type=content_type, status=status, headers=headers)

    def error(
        self,
        status: int,
        reason: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> web.Response:
        """Return a JSON problem with that status; `members` stand in it."""
        return problems.response(status, reason, headers=headers, **members)

    def notfound(self, reason: str = 'Not found', **members: Any) -> web.Response:
        """Return a JSON problem with status 404."""
        return self.error(404, reason, **members)

    def redirect(self, location: str, *, status: int = 302) -> web.Response:
        """Return a redirection to a URL, such as `url_for` gives."""
        return web.Response(status=status, headers={'Location': str(location)})

    def url_for(self, name: str, /, **params: Any) -> str:
        """Return the path of the page of that name, with its parameters filled in.

        Raises:
            KeyError: There is no such page, or a parameter is missing.
        """
        resource = self.app.router.named_resources()[name]
        return str(resource.url_for(**{key: str(value) for key, value in params.items()}))

    path_for = url_for

    async def read_request_content(self, request: web.Request) -> Body:
        """Return the body of a request."""
        return await request.read()


class View(Web):
    """Base of pages that are classes: `async def get(self, request, **parameters)`, `post`, …

    A class without this base gets it. What the request asks for and the class lacks is a 405.

    Attributes:
        request: The one that is being answered.
    """

    def __init__(self, app: web.Application, request: web.Request) -> None:
        super().__init__(app)
        self.request = request


class Pages:
    """The pages of one application, served at the paths that they were declared with.

    Args:
        app: Serves them; None only keeps them, as under the offline driver.
    """

    def __init__(self, app: web.Application | None = None) -> None:
        self.app = app
        self._methods: dict[str, set[str]] = {}

    def add(
        self,
        path: str,
        page: Any,
        *,
        base: type | None = None,
        origins: Iterable[str] | None = None,
        name: str | None = None,
    ) -> None:
        """Serve a page.

        Args:
            path: As in aiohttp: `/orders/{order_id}`.
            page: A function `(web, request, **parameters of the path)`, or a class.
            base: Class of the views of classes, instead of `View`; of functions: makes `web`.
            origins: Those that may call it from a browser, instead of the application's.
            name: For `url_for`; default that of the function or class, where it is free.

        Raises:
            ValueError: The path does not begin with a slash, or another page has it.
            TypeError: It is neither a coroutine function nor a class with a method named as one
                of HTTP, or does not take the parameters of the path.
        """
        is_class = inspect.isclass(page)
        methods = _methods(page) if is_class else ['*']
        if not is_class and not inspect.iscoroutinefunction(page):
            raise TypeError(f'page {path}: {page!r} must be an `async def` or a class')
        _check_parameters(path, page)
        self._take(path, methods)
        if self.app is None:
            return
        app = self.app
        answer = _class_answer(app, page, base) if is_class else _function_answer(app, page, base)
        chosen = name or _free_name(app, getattr(page, '__name__', None))
        resource = app.router.add_resource(path, name=chosen)
        for method in methods:
            resource.add_route(method, answer)
        if origins is not None:
            cors.pages_of(app)[answer] = cors.Cors(origins)
            if is_class and 'OPTIONS' not in methods:
                resource.add_route('OPTIONS', answer)  # a preflight finds the rules by its route

    def _take(self, path: str, methods: Iterable[str]) -> None:
        taken = self._methods.setdefault(path, set())
        if '*' in taken or (taken and '*' in methods) or taken.intersection(methods):
            raise ValueError(f'There is a page {path} already; this one would never be asked')
        taken.update(methods)


def _check_parameters(path: str, page: Any) -> None:
    """Find at the declaration what would be an error 500 at each request."""
    resource = web.UrlDispatcher().add_resource(path).get_info()
    names = resource['pattern'].groupindex if 'pattern' in resource else ()
    calls = [page]
    if inspect.isclass(page):
        own = (getattr(page, method.lower(), None) for method in METHODS)
        calls = [call for call in own if inspect.isfunction(call)]
    for call in calls:
        try:
            inspect.signature(call).bind(None, None, **dict.fromkeys(names, ''))
        except TypeError as error:
            wanted = ', '.join(names) or 'no parameters'
            raise TypeError(f'page {path}: {call.__name__} is given {wanted}: {error}') from error


def origins_of(cors_options: Mapping[str, Any] | Iterable[str] | None) -> list[str] | None:
    """Return the origins of CORS options as aiohttp-cors has them: `{'https://a.example': {…}}`."""
    return None if cors_options is None else [str(origin) for origin in cors_options]


def _function_answer(app: web.Application, function: Any, base: type | None) -> Answer:
    tool: Any = (base or Web)(app)

    async def answer(request: web.Request) -> web.StreamResponse:
        found: web.StreamResponse = await function(tool, request, **request.match_info)
        return found

    answer.__doc__ = function.__doc__
    answer.__name__ = getattr(function, '__name__', 'page')
    return answer


def _class_answer(app: web.Application, page: Any, base: type | None) -> Answer:
    wanted = base or View
    view = page if issubclass(page, wanted) else type(page.__name__, (page, wanted), {})

    async def answer(request: web.Request) -> web.StreamResponse:
        own = view(app, request)
        method = request.method.lower()
        call = getattr(own, method, None) or (
            getattr(own, 'get', None) if method == 'head' else None
        )
        if call is None:  # OPTIONS, which is there for preflights alone
            raise web.HTTPMethodNotAllowed(request.method, _methods(page))
        found: web.StreamResponse = await call(request, **request.match_info)
        return found

    answer.__doc__ = page.__doc__
    answer.__name__ = page.__name__
    return answer


def _methods(page: type) -> list[str]:
    found = [method for method in METHODS if callable(getattr(page, method.lower(), None))]
    if not found:
        raise TypeError(f'page {page.__name__} has none of the methods get, post, put, …')
    if 'GET' in found and 'HEAD' not in found:
        found.append('HEAD')
    return found


def _free_name(app: web.Application, name: str | None) -> str | None:
    return None if name is None or name in app.router.named_resources() else name
