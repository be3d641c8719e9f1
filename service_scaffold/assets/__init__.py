"""Assets: things with attributes and methods, owned by one service and known to all."""

from __future__ import annotations

from service_scaffold.assets.declarations import condition, event, sample
from service_scaffold.assets.feature import AssetsFeature, get_assets
from service_scaffold.assets.finding import add_asset as add
from service_scaffold.assets.finding import find_assets as find
from service_scaffold.assets.finding import open_asset as open
from service_scaffold.assets.methods import method
from service_scaffold.assets.owned import OwnedAsset
from service_scaffold.assets.proxy import AssetProxy
from service_scaffold.assets.record import AVAILABLE, UNAVAILABLE, Attribute, Kind, Quality
from service_scaffold.assets.setting_up import setup
from service_scaffold.assets.watching import Watch
from service_scaffold.errors import (
    AssetError,
    AssetUnavailable,
    BadRequest,
    MethodFailed,
    UnknownAttribute,
    UnknownMethod,
)
from service_scaffold.errors import AssetFenced as Fenced

__all__ = [
    'AVAILABLE',
    'UNAVAILABLE',
    'AssetError',
    'AssetProxy',
    'AssetUnavailable',
    'AssetsFeature',
    'Attribute',
    'BadRequest',
    'Fenced',
    'Kind',
    'MethodFailed',
    'OwnedAsset',
    'Quality',
    'UnknownAttribute',
    'UnknownMethod',
    'Watch',
    'add',
    'condition',
    'event',
    'find',
    'get_assets',
    'method',
    'open',
    'sample',
    'setup',
]
