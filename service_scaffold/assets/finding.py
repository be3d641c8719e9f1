"""What services call: own an asset, open one of anybody's, find some."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from service_scaffold.assets.feature import get_assets
from service_scaffold.assets.owned import OwnedAsset
from service_scaffold.assets.proxy import AssetProxy


async def open_asset(
    app: web.Application | web.Request, id: str, *, timeout_s: float | None = None
) -> AssetProxy:
    """Return a proxy of an asset, known or not, as soon as its latest values are known.

    Args:
        timeout_s: Default `--connect-timeout-s`.

    Raises:
        TimeoutError: The broker's values are not known in time.
        ValueError: The id cannot name an asset.
    """
    return await get_assets(app).open(id, _limit_s(app, timeout_s))


async def add_asset(
    app: web.Application | web.Request,
    id: str,
    *,
    kind: str = '',
    path: str = '',
    attributes: Mapping[str, Any] | None = None,
    methods: Mapping[str, Any] | None = None,
    timeout_s: float | None = None,
) -> OwnedAsset:
    """Own an asset: return when it is available, with its attributes published.

    Args:
        kind: What it is, to be found by.
        path: Where it stands, as `site/line/cell`, to be found by.
        attributes: `{id: value}`, or `{id: assets.sample(value, tag=…)}`.
        methods: `{name: function}`, each sync or async.
        timeout_s: Default `--connect-timeout-s`.

    Raises:
        TimeoutError, PublishError: The broker was not reached in time; nothing is owned.
        Fenced: Somebody else has taken it over in the same moment; nothing is owned.
        ValueError, TypeError: An id, a value or a method cannot be one.
    """
    feature = get_assets(app)
    limit_s = _limit_s(app, timeout_s)
    asset = feature.own(id, kind, path, attributes, methods)
    try:
        async with asyncio.timeout(limit_s):
            await feature.completed(limit_s, now=True)
            await asset.claim()
            await asset.announce()
    except BaseException:
        asset.abandon()
        raise
    return asset


async def find_assets(
    app: web.Application | web.Request,
    *,
    kind: str | None = None,
    path: str | None = None,
    available: bool | None = None,
    timeout_s: float | None = None,
) -> list[AssetProxy]:
    """Return proxies of the assets that are of a kind, at or below a path, available or not.

    Raises:
        TimeoutError: The broker's values are not known in time.
    """
    feature = get_assets(app)
    await feature.completed(_limit_s(app, timeout_s))
    return [
        AssetProxy(feature, view.id)
        for view in sorted(feature.mirror.known(), key=lambda view: view.id)
        if kind in (None, view.kind)
        and available in (None, view.available)
        and (path is None or view.path == path or view.path.startswith(path.rstrip('/') + '/'))
    ]


def _limit_s(app: web.Application | web.Request, timeout_s: float | None) -> float:
    return get_assets(app).connect_timeout_s if timeout_s is None else timeout_s
