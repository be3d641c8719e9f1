"""Importing the modules that declare agents, tables and pages of an application."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable

from service_scaffold import errors

Autodiscover = bool | str | Iterable[str] | Callable[[], Iterable[str]]


def discover(autodiscover: Autodiscover, origin: str | None) -> list[str]:
    """Import what is to be imported, and return the names.

    Args:
        autodiscover: Modules, or a function that returns them; True is `origin` alone, which
            need not be given: what has been imported has declared itself already.
        origin: The module that declares the application.

    Raises:
        ConfigError: A module cannot be imported; the error that it has failed with is the cause.
    """
    names = [*_modules(autodiscover)]
    if origin and autodiscover not in (False, 'false'):
        names.insert(0, origin.partition(':')[0])
    found = [name for name in dict.fromkeys(names) if not _is_main(name)]
    for name in found:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise errors.ConfigError(f'autodiscover: cannot import {name!r}: {error}') from error
    return found


def _modules(autodiscover: Autodiscover) -> Iterable[str]:
    if isinstance(autodiscover, bool) or autodiscover in ('true', 'false'):
        return ()
    if isinstance(autodiscover, str):
        return [part.strip() for part in autodiscover.split(',') if part.strip()]
    return autodiscover() if callable(autodiscover) else autodiscover


def _is_main(name: str) -> bool:
    """Tell whether a module is the running program, which imported again would be another app."""
    main = sys.modules['__main__']
    spec = getattr(main, '__spec__', None)
    if spec is not None:
        return bool(spec.name.removesuffix('.__main__') == name.removesuffix('.__main__'))
    path: str | None = getattr(main, '__file__', None)
    if path is None or name in sys.modules:
        return False
    tail = name.replace('.', os.sep)
    return os.path.abspath(path).endswith((f'{os.sep}{tail}.py', f'{os.sep}{tail}/__main__.py'))
