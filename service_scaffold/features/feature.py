"""The base of everything that lives as long as the application."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from enum import Enum

from aiohttp import web

from service_scaffold.features import registry
from service_scaffold.features.families import Family, Histogram
from service_scaffold.features.health import Health


class Startup(Enum):
    """Who starts and stops a feature."""

    MANAGED = 'managed'
    """The application. Made too late, it is a RuntimeError."""

    MANUAL = 'manual'
    """You: neither `startup` nor any stop hook is called for you."""

    AUTODETECT = 'autodetect'
    """The application when it has not started yet, else you."""


class ServiceFeature(ABC):
    """An object with asynchronous work that spans requests: connections, loops, caches.

    Make it after `create_app` and before `run`. `startup` is called when the application starts,
    in the order in which features were made; the stop hooks in reverse: `drain` of all, then
    `before_shutdown` of all, then `shutdown` of all. A hook that raises or hangs is logged, and
    the others run all the same.

    Args:
        app: The root application.
        startup: Who starts and stops it.

    Raises:
        RuntimeError: `Startup.MANAGED`, and the application has already started.
    """

    def __init__(self, app: web.Application, startup: Startup = Startup.AUTODETECT) -> None:
        self._app = app
        if startup is Startup.MANUAL:
            return
        lifecycle = registry.get_lifecycle(app)
        if startup is Startup.MANAGED or lifecycle.can_manage:
            lifecycle.manage(self)

    @property
    def app(self) -> web.Application:
        """The application it belongs to."""
        return self._app

    @abstractmethod
    async def startup(self, app: web.Application) -> None:
        """Start: the asynchronous counterpart of `__init__`, and short.

        Long work belongs in a task (`scheduler.create_task`) and holds readiness through
        `health`. An exception ends the application's start.
        """

    async def drain(self, app: web.Application) -> None:  # noqa: B027  # optional
        """Take in no more work and finish what runs, while everything is still open."""

    async def before_shutdown(self, app: web.Application) -> None:  # noqa: B027  # optional
        """Say goodbye: every other feature is still open, requests are still served."""

    @abstractmethod
    async def shutdown(self, app: web.Application) -> None:
        """Stop: the asynchronous counterpart of `__del__`."""

    def health(self) -> Health | None:
        """Return how it is, from memory and at once; None when there is nothing to say."""
        return None

    def metric_families(self) -> Iterable[Family | Histogram]:
        """Return what it has counted, from memory and at once, for whoever asks for metrics.

        Families of one name from several features become one.
        """
        return ()
