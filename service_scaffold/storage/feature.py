"""The storages of an application, by name."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web

from service_scaffold import errors, features, options
from service_scaffold.storage import settings
from service_scaffold.storage.base import Backend
from service_scaffold.storage.local import LocalBackend
from service_scaffold.storage.memory import MemoryBackend
from service_scaffold.storage.s3 import S3Backend


class Storages(Mapping[str, Backend]):
    """What `--storage` says: back ends by name, made when they are first asked for."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._settings: dict[str, settings.Settings] = {}
        self._made: dict[str, Backend] = {}
        self._lock = threading.Lock()

    @property
    def default(self) -> Backend | None:
        """The only one, or the one named `default`; None when there is none.

        Raises:
            ConfigError: There are several, and none of that name.
        """
        names = list(self)
        if settings.DEFAULT in names:
            return self[settings.DEFAULT]
        if len(names) > 1:
            raise errors.ConfigError(
                f'There are several storages ({", ".join(names)}); choose one by its name'
            )
        return self[names[0]] if names else None

    def __getitem__(self, name: str) -> Backend:
        given = self._given()
        if name not in given:
            raise KeyError(f'no storage {name!r}, but {", ".join(given) or "none"}')
        with self._lock:  # threads that come first at the same time get the same
            if name not in self._made:
                self._made[name] = _make(given[name])
            return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._given())

    def __len__(self) -> int:
        return len(self._given())

    def _given(self) -> dict[str, settings.Settings]:
        # Each time, as a ready-made app reads its options again when there are flags.
        config: dict[str, Any] = self._app.get(options.CONFIG, {})
        value = config.get('storage')
        found = {} if value is None else settings.from_object(value)
        if found != self._settings:
            self._settings, self._made = found, {}
        return self._settings


def setup(app: web.Application) -> None:
    """Give `app` the storages of its option `--storage`, if it has none.

    Raises:
        ConfigError: The option was given as a keyword, and is wrong.
    """
    if not features.has(app, Storages):
        storages = Storages(app)
        len(storages)  # so that what is wrong is said now
        features.add(app, storages)


def get_storage(app: web.Application | web.Request) -> Storages:
    """Return the storages of `app`: `.default`, or by name.

    Raises:
        UnknownFeature: (a KeyError) `setup(app)` was not called.
    """
    return features.get(app, Storages)


def _make(given: settings.Settings) -> Backend:
    if isinstance(given, settings.Local):
        return LocalBackend(given.local_path, given.mount_point)
    if isinstance(given, settings.Memory):
        return MemoryBackend()
    return S3Backend(given)
