"""Stores: the state of a table partition on this worker, found by the scheme of a URL."""

from __future__ import annotations

from service_scaffold.streams.stores.base import (
    SCHEMES,
    Backend,
    Store,
    open_backend,
    register,
)
from service_scaffold.streams.stores.directory import Claim, claim

__all__ = ['SCHEMES', 'Backend', 'Claim', 'Store', 'claim', 'open_backend', 'register']
