"""Assets over HTTP: read, followed as server-sent events, called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, get_args

import msgspec
from aiohttp import web

from service_scaffold import errors
from service_scaffold.assets.feature import AssetsFeature, get_assets
from service_scaffold.assets.finding import find_assets
from service_scaffold.assets.following import Follower
from service_scaffold.assets.proxy import AssetProxy
from service_scaffold.assets.record import Kind
from service_scaffold.http import apidoc
from service_scaffold.http.problems import ProblemError

DEFAULT_TIMEOUT_S = 30.0
MAX_TIMEOUT_S = 3600.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_routes(app: web.Application, path: str) -> None:
    """Add the resources of assets below `path`.

    Args:
        path: As `/assets`.
    """
    one = path + '/{asset}'
    for method, place, handler, summary in (
        ('GET', path, get_all, 'The assets that are known'),
        ('GET', one, get_one, 'An asset with its attributes'),
        ('GET', f'{one}/events', follow, 'Its attributes and their changes, as server-sent events'),
        ('GET', one + '/{attribute}', get_attribute, 'One attribute of an asset'),
        # One that is named `events` is hidden by the stream above.
        ('GET', one + '/attributes/{attribute}', get_attribute, 'One attribute of an asset'),
        ('POST', one + '/methods/{method}', call, 'Call a method of an asset'),
    ):
        described = apidoc.document(handler, tags=['assets'], summary=summary)
        app.router.add_route(method, place, described)


async def get_all(request: web.Request) -> web.Response:
    """List the assets; `kind`, `path` and `available` in the query choose."""
    try:
        found = await find_assets(
            request,
            kind=request.query.get('kind'),
            path=request.query.get('path'),
            available=_flag(request, 'available'),
        )
    except TimeoutError as error:
        raise ProblemError(503, str(error)) from error
    return _json({'assets': [_head(one) for one in found]})


async def get_one(request: web.Request) -> web.Response:
    """Tell all that is known of an asset."""
    asset = await _known(request)
    attributes = asset.attributes()
    references = {'above': sorted(asset.above), 'below': sorted(asset.below)}
    return _json({**_head(asset), **references, 'attributes': attributes})


async def get_attribute(request: web.Request) -> web.Response:
    """Tell one attribute."""
    asset = await _known(request)
    try:
        return _json(asset[request.match_info['attribute']])
    except errors.UnknownAttribute as error:
        raise ProblemError(404, str(error)) from error


async def follow(request: web.Request) -> web.StreamResponse:
    """Send the attributes, then each change; `attribute` and `kind` in the query choose."""
    asset = await _known(request)
    kind = request.query.get('kind')
    if kind not in (None, *get_args(Kind)):
        raise ProblemError(422, f'kind is {kind!r}; it may be one of: {", ".join(get_args(Kind))}')
    follower = Follower(asset, request.query.get('attribute'), kind)
    return await follower.send_to(request, get_assets(request).stopping)


async def call(request: web.Request) -> web.Response:
    """Call a method with the arguments in the body; `timeout_s` and `queue` in the query."""
    asset = await _known(request)
    timeout_s, queue = _timeout_s(request), bool(_flag(request, 'queue'))
    arguments = await _arguments(request)
    try:
        value = await asset.call(
            request.match_info['method'], arguments, timeout_s=timeout_s, queue=queue
        )
    except errors.BadRequest as error:
        raise ProblemError(422, str(error), errors=list(error.errors)) from error
    except errors.UnknownMethod as error:
        raise ProblemError(404, str(error)) from error
    except errors.MethodFailed as error:
        raise ProblemError(502, str(error)) from error
    except TimeoutError as error:
        raise ProblemError(504, str(error)) from error
    except errors.AssetUnavailable as error:
        raise ProblemError(503, str(error)) from error
    return _json({'value': value})


async def _known(request: web.Request) -> AssetProxy:
    feature: AssetsFeature = get_assets(request)
    id = request.match_info['asset']
    try:
        asset = await feature.open(id, feature.connect_timeout_s)
    except ValueError as error:
        raise ProblemError(404, str(error)) from error
    except TimeoutError as error:
        raise ProblemError(503, str(error)) from error
    if not asset.known:
        raise ProblemError(404, f'{id} is not known')
    return asset


async def _arguments(request: web.Request) -> dict[str, Any]:
    body = await request.read()
    if not body:
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.ValidationError as error:
        raise ProblemError(422, 'The body must be an object with the arguments') from error
    except msgspec.DecodeError as error:
        raise ProblemError(400, f'Not valid JSON: {error}') from error


def _flag(request: web.Request, name: str) -> bool | None:
    text = request.query.get(name)
    if text not in (None, 'true', 'false'):
        raise ProblemError(422, f'{name} is {text!r}; it may be true or false')
    return None if text is None else text == 'true'


def _timeout_s(request: web.Request) -> float:
    text = request.query.get('timeout_s', str(DEFAULT_TIMEOUT_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= MAX_TIMEOUT_S:
        raise ProblemError(422, f'timeout_s is {text!r}; it may be up to {MAX_TIMEOUT_S:g}')
    return seconds


def _head(asset: AssetProxy) -> dict[str, Any]:
    return {
        'id': asset.id,
        'kind': asset.kind,
        'path': asset.path,
        'available': asset.available,
    }


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type='application/json')
