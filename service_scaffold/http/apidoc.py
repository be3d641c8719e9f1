"""The API page, its document, and the validation of requests: all of `aiohttp_apispec`'s part.

`docs`, `request_schema`, `response_schema` and the other decorators of `aiohttp_apispec` are here,
too, and load it on first use.
"""

from __future__ import annotations

import html
import importlib
import json
import string
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from service_scaffold.http import forwarded, problems
from service_scaffold.http import prefix as prefixes

if TYPE_CHECKING:
    from aiohttp_apispec import (
        cookies_schema,
        docs,
        form_schema,
        headers_schema,
        json_schema,
        match_info_schema,
        querystring_schema,
        request_schema,
        response_schema,
    )

DECORATORS = (
    'cookies_schema',
    'docs',
    'form_schema',
    'headers_schema',
    'json_schema',
    'match_info_schema',
    'querystring_schema',
    'request_schema',
    'response_schema',
)

__all__ = [
    'cookies_schema',
    'docs',
    'document',
    'form_schema',
    'headers_schema',
    'json_schema',
    'match_info_schema',
    'querystring_schema',
    'request_schema',
    'response_schema',
    'setup',
]

_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="UTF-8">
    <title>$title</title>
    <link rel="stylesheet" type="text/css" href="$static/swagger-ui.css">
    <link rel="icon" type="image/png" href="$static/favicon-32x32.png" sizes="32x32">
    <style>body { margin: 0; background: #fafafa }</style>
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="$static/swagger-ui-bundle.js" charset="UTF-8"></script>
    <script src="$static/swagger-ui-standalone-preset.js" charset="UTF-8"></script>
    <script>
      window.onload = () => {
        window.ui = SwaggerUIBundle({
          url: $document,
          dom_id: '#swagger-ui',
          deepLinking: true,
          validatorUrl: null,
          presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
          layout: 'StandaloneLayout',
        });
      };
    </script>
  </body>
</html>
""")  # validatorUrl: the page would send the document to a validator on the internet


PLACE = web.AppKey('service_scaffold.apidoc.place', str)
"""Where the page stands below the service's prefix, if something else has `/api/doc`."""


def __getattr__(name: str) -> Any:  # what the library gives is untyped
    if name not in DECORATORS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module('aiohttp_apispec'), name)


def setup(app: web.Application, *, prefix: str, title: str, version: str) -> None:
    """Add the API page at `{prefix}/api/doc` and its document at `{prefix}/api/doc/swagger.json`.

    The assets of the page come from this service, too. Every route with one of the decorators is in
    the document, those of sub-apps included; routes may still be added until the start.

    Args:
        prefix: Path prefix of the service, without a trailing slash.
        title: Name of the service.
        version: Version of its API.
    """
    place = prefix + app.get(PLACE, '')
    page = f'{place}/api/doc'
    document: dict[str, object] = {}

    async def show_page(request: web.Request) -> web.Response:
        base = forwarded.root_path(request) + page
        text = _PAGE.substitute(
            title=html.escape(title),
            static=html.escape(f'{base}/static'),
            document=json.dumps(f'{base}/swagger.json').replace('<', '\\u003c'),
        )
        return web.Response(text=text, content_type='text/html')

    async def show_document(request: web.Request) -> web.Response:
        if not document:  # on demand: building it takes longer than the rest of the start
            document.update(describe(app, prefix=prefix, title=title, version=version))
        root = forwarded.root_path(request)
        shown = {**document, 'basePath': root} if root else document
        return web.json_response(shown, dumps=_dump)

    app.router.add_get(f'{page}/swagger.json', show_document)
    static = app.router.add_static('/api/doc/static', _static_files())
    if place:
        # Made there, a path of letters that a URL escapes would never be found.
        prefixes.move(app.router, static, place)
    app.router.add_get(page, show_page)
    app.router.add_get(f'{page}/', show_page)


def document(handler: Handler, **description: object) -> Handler:
    """Describe a handler as `@docs(**description)` does; for handlers made while setting up."""
    described = __getattr__('docs')(**description)(handler)
    return cast(Handler, described)


def describe(app: web.Application, *, prefix: str, title: str, version: str) -> dict[str, object]:
    """Return the document (Swagger 2.0) of every decorated route of `app` under `prefix`."""
    from aiohttp_apispec import AiohttpApiSpec  # on use, as it takes long

    spec = AiohttpApiSpec(url=None, title=title, version=version)
    spec.register(_Catalogue(app, prefix), in_place=True)
    found: dict[str, Any] = spec.swagger_dict()
    for path in found['paths'].values():
        for operation in path.values():
            _complete(operation)
    return found


class _Operation:
    """A handler as the library reads it, with a copy of its description.

    The library takes the description apart while it reads; a second application with the same
    handlers (a test, say) would find nothing left.
    """

    def __init__(self, handler: object) -> None:
        given: dict[str, Any] = handler.__apispec__  # type: ignore[attr-defined]
        self.__apispec__ = {
            **given,
            'schemas': [{**entry, 'example': dict(entry['example'])} for entry in given['schemas']],
            'parameters': list(given['parameters']),
            'responses': {code: dict(entry) for code, entry in given['responses'].items()},
        }


class _Route(NamedTuple):
    method: str
    resource: web.AbstractResource
    handler: _Operation


class _Catalogue(dict[str, object]):
    """What the library asks of an application: its routes, and room for its own keys.

    An application itself would be given plain string keys, of which aiohttp warns, and be read
    with its HEAD routes and class views of which nothing is described.
    """

    def __init__(self, app: web.Application, prefix: str) -> None:
        super().__init__()
        self.router = self
        self._app = app
        self._base = f'{prefix}/'

    def routes(self) -> Iterator[_Route]:
        for route in self._app.router.routes():
            if route.resource is None or route.method == hdrs.METH_HEAD:
                continue
            if not route.resource.canonical.startswith(self._base):
                continue  # health, which is there twice
            for method, handler in _operations(route):
                if hasattr(handler, '__apispec__'):
                    yield _Route(method, route.resource, _Operation(handler))


def _operations(route: web.AbstractRoute) -> Iterator[tuple[str, object]]:
    handler: object = route.handler
    for method in sorted(hdrs.METH_ALL) if route.method == hdrs.METH_ANY else [route.method]:
        is_view = isinstance(handler, type)
        yield method, getattr(handler, method.lower(), None) if is_view else handler


def _complete(operation: dict[str, Any]) -> None:
    """Add what Swagger demands of an operation: a response, and what each of them means."""
    responses = operation.setdefault('responses', {})
    if not responses:
        responses['default'] = {'description': 'Any response'}
    for status, response in responses.items():
        if not response.get('description'):
            known = str(status).isdigit()
            response['description'] = problems.title(int(status)) if known else 'Any other response'


def _dump(document: object) -> str:
    return json.dumps(document, default=_plain)


def _plain(value: object) -> object:
    """Return the JSON form of what a schema may hold as a default or a limit."""
    return float(value) if isinstance(value, Decimal) else str(value)


def _static_files() -> Path:
    package = importlib.import_module('aiohttp_apispec')
    return Path(str(package.__file__)).parent / 'static'
