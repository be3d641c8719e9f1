"""Requests are validated against the schemas of the decorators in `http.apidoc`.

A handler finds what was validated in `request['data']`, or under the decorator's own key:
`request['json']`, `['querystring']`, `['headers']`, `['match_info']`, `['form']`, `['cookies']`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from aiohttp import web
from aiohttp.hdrs import METH_ALL
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.typedefs import Handler, Middleware

from service_scaffold.http import problems

DATA = 'data'
"""Where the fields of all schemas without a key of their own stand in the request."""

_OPEN_LOCATIONS = frozenset({'headers', 'cookies', 'match_info', 'path'})
"""Locations with fields that are not the caller's choice: unknown ones are no mistake there."""

_UNREADABLE = (web.HTTPBadRequest, BadHttpMessage, LookupError, RecursionError, ValueError)

_seen_keys: set[str] = set()


class _Invalid(Exception):
    """One schema refuses the request; `messages` by location and field."""

    def __init__(self, messages: Mapping[str, object]) -> None:
        super().__init__()
        self.messages = messages


def setup(app: web.Application) -> None:
    """Validate the requests of `app`, as its innermost middleware, if any handler has a schema.

    What does not fit is answered with 422 and a problem whose `errors` name location and field:
    `{"json": {"litres": ["Not a valid number."]}}`; a body that cannot be read with 400.
    """

    async def add_middleware(app: web.Application) -> None:
        # Not before the start: by then every route is known, and most services need none of it.
        # And not at a second start: by then no middleware can be added.
        if app.middlewares.frozen:
            return
        if any(_has_schemas(route.handler) for route in app.router.routes()):
            app.middlewares.append(_middleware())

    app.on_startup.append(add_middleware)


def _middleware() -> Middleware:
    from marshmallow import EXCLUDE, RAISE  # on use, as it loads slowly

    parser = _parser()

    async def parse(request: web.Request, entry: Mapping[str, Any]) -> Any:
        location, schema = entry['location'], entry['schema']
        unknown = None  # None is what the schema itself says: by default, unknown is refused
        if location in _OPEN_LOCATIONS and getattr(schema, 'unknown', RAISE) == RAISE:
            unknown = EXCLUDE
        return await parser.parse(schema, request, location=location, unknown=unknown)

    async def validate_all(request: web.Request, schemas: list[Mapping[str, Any]]) -> None:
        merged: Any = {}
        refused: dict[str, object] = {}
        for entry in schemas:
            try:
                data = await parse(request, entry)
            except _Invalid as error:
                refused.update(error.messages)
                continue
            if entry['put_into']:
                _put(request, entry['put_into'], data)
            elif isinstance(data, Mapping) and isinstance(merged, dict):
                merged.update(data)
            elif data:
                merged = data  # a schema with many=True gives a list
        if refused:
            detail = '; '.join(f'{path}: {text.rstrip(".")}' for path, text in _flat(refused))
            raise problems.ProblemError(422, detail, errors=refused)
        _put(request, DATA, merged)

    @web.middleware
    async def validate(request: web.Request, handler: Handler) -> web.StreamResponse:
        schemas = _schemas(request)
        if schemas is not None:
            await validate_all(request, schemas)
        return await handler(request)

    return validate


def _parser() -> Any:
    from webargs.aiohttpparser import AIOHTTPParser  # on use, as it loads slowly

    class Parser(AIOHTTPParser):
        async def load_json(self, req: web.Request, schema: Any) -> Any:
            with _readable('JSON'):
                return await super().load_json(req, schema)

        async def load_form(self, req: web.Request, schema: Any) -> Any:
            with _readable('form data'):
                return await super().load_form(req, schema)

    return Parser(error_handler=_refuse)


@contextmanager
def _readable(kind: str) -> Iterator[None]:
    """Answer 400 when a body cannot be read: wrong syntax or encoding, too deep, too long a number.

    That is the client's mistake, whatever a decoder calls it; what a schema raises is our own.
    """
    try:
        yield
    except _UNREADABLE as error:
        raise problems.ProblemError(400, f'The body is not valid {kind}.') from error


def _has_schemas(handler: object) -> bool:
    if isinstance(handler, type):
        return any(getattr(getattr(handler, m.lower(), None), '__schemas__', ()) for m in METH_ALL)
    return bool(getattr(handler, '__schemas__', ()))


def _schemas(request: web.Request) -> list[Mapping[str, Any]] | None:
    handler: object = request.match_info.handler
    if isinstance(handler, type):
        handler = getattr(handler, request.method.lower(), None)
    return getattr(handler, '__schemas__', None)


def _put(request: web.Request, key: str, value: object) -> None:
    if key in _seen_keys:
        request[key] = value
        return
    # aiohttp advises against plain keys, once for each; these are the library's contract.
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', web.NotAppKeyWarning)
        request[key] = value
    _seen_keys.add(key)


def _refuse(error: Any, *_args: object, **_keywords: object) -> NoReturn:
    raise _Invalid(error.messages) from error


def _flat(messages: object, path: str = '') -> Iterator[tuple[str, str]]:
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            yield from _flat(inner, f'{path}.{key}' if path else str(key))
    elif isinstance(messages, (list, tuple)):
        for inner in messages:
            yield from _flat(inner, path)
    else:
        yield path, str(messages)
