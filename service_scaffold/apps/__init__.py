"""Ready-made apps: each is a whole service in one object. They are loaded when they are asked for.

from service_scaffold.apps import StreamApp
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    'StreamApp': 'service_scaffold.apps.stream',
}

__all__ = ['StreamApp']


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
