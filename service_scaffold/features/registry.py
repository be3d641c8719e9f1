"""Finding the features of an application."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeVar, overload

from aiohttp import web

from service_scaffold import clock as clocks
from service_scaffold import errors
from service_scaffold.features.lifecycle import LIFECYCLE, Lifecycle

T = TypeVar('T')


def add(
    app: web.Application, feature: T, key: Hashable | None = None, exist_ok: bool = False
) -> None:
    """Make `feature` known to `get`.

    Args:
        feature: Any object; `ServiceFeature` is not required.
        key: What it is found under, default its class.
        exist_ok: Leave the one that is already there, instead of raising.

    Raises:
        FeatureExists: (a KeyError) the key is taken.
    """
    found = get_lifecycle(app).registry
    identifier: Any = type(feature) if key is None else key
    if identifier in found:
        if exist_ok:
            return
        raise errors.FeatureExists(f'A feature is already there under {_show(identifier)}')
    found[identifier] = feature


@overload
def get(app_or_request: web.Application | web.Request, feature_type: type[T]) -> T: ...
@overload
def get(
    app_or_request: web.Application | web.Request,
    feature_type: type[T],
    key: Hashable | None,
) -> T: ...
@overload
def get(
    app_or_request: web.Application | web.Request,
    feature_type: None = None,
    key: Hashable | None = None,
) -> Any: ...
def get(
    app_or_request: web.Application | web.Request,
    feature_type: type[T] | None = None,
    key: Hashable | None = None,
) -> Any:
    """Return the feature that was added under `key`, default `feature_type`.

    A request may come from a sub-application: the features are those of the root application.

    Raises:
        UnknownFeature: (a KeyError) nothing was added under that key.
        FeatureMismatch: (an AssertionError) it is not a `feature_type`, or neither was given.
    """
    identifier: Any = feature_type if key is None else key
    if identifier is None:
        raise errors.FeatureMismatch('No feature identifier: give feature_type or key')
    for found in _registries(app_or_request):
        if identifier in found:
            feature = found[identifier]
            break
    else:
        raise errors.UnknownFeature(
            f'No feature under {_show(identifier)}; was its setup(app) called?'
        )
    if feature_type is not None and not isinstance(feature, feature_type):
        raise errors.FeatureMismatch(
            f'The feature under {_show(identifier)} is a {type(feature).__name__},'
            f' not a {feature_type.__name__}'
        )
    return feature


def has(app_or_request: web.Application | web.Request, key: Hashable) -> bool:
    """Tell whether something was added under `key` (a class or a name)."""
    return any(key in found for found in _registries(app_or_request))


def get_lifecycle(app: web.Application) -> Lifecycle:
    """Return the lifecycle of a root application, which is made on first use.

    `on_startup` handlers that were appended before that run before the features start, those
    appended later after it; `create_app` makes it first of all.
    """
    lifecycle = app.get(LIFECYCLE)
    if lifecycle is None:
        lifecycle = app[LIFECYCLE] = Lifecycle(app)
    return lifecycle


def get_clock(app_or_request: web.Application | web.Request) -> clocks.Clock:
    """Return the clock of an application, `SystemClock` unless `set_clock` was called."""
    lifecycle = _root(app_or_request).get(LIFECYCLE)
    return clocks.SystemClock() if lifecycle is None else lifecycle.clock


def set_clock(app: web.Application, clock: clocks.Clock) -> None:
    """Give an application another clock; do it before its features are made."""
    get_lifecycle(app).clock = clock


def _root(app_or_request: web.Application | web.Request) -> web.Application:
    if isinstance(app_or_request, web.Application):
        return app_or_request
    return app_or_request.match_info.apps[0]


def _registries(app_or_request: web.Application | web.Request) -> list[dict[Hashable, object]]:
    """Return what was added to the root application, and then to those below it."""
    apps: tuple[web.Application, ...] = (
        (app_or_request,)
        if isinstance(app_or_request, web.Application)
        else app_or_request.match_info.apps
    )
    return [app[LIFECYCLE].registry for app in apps if LIFECYCLE in app]


def _show(key: object) -> str:
    return key.__name__ if isinstance(key, type) else repr(key)
