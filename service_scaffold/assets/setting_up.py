"""Giving an application its assets."""

from __future__ import annotations

from aiohttp import web

from service_scaffold import events, features
from service_scaffold.assets import routes
from service_scaffold.assets.feature import AssetsFeature

PATH = '/assets'
"""Where assets stand over HTTP, below the service's prefix."""


def setup(app: web.Application, path: str = PATH) -> None:
    """Let an application own assets and know those of others; sets up events, if absent.

    Args:
        path: Where the assets stand over HTTP, below the service's prefix.
    """
    if features.has(app, AssetsFeature):
        return
    events.setup(app)
    features.add(app, AssetsFeature(app))
    routes.add_routes(app, path)
