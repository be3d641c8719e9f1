"""One HTTP client session per application."""

from __future__ import annotations

import aiohttp
from aiohttp import web

from service_scaffold import features


class HTTPClient(features.ServiceFeature):
    """Holds a `ClientSession` from start to stop.

    A response with status 400 or more raises `aiohttp.ClientResponseError`.
    """

    def __init__(
        self, app: web.Application, startup: features.Startup = features.Startup.AUTODETECT
    ) -> None:
        super().__init__(app, startup)
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session.

        Raises:
            RuntimeError: The application has not started yet, or has stopped.
        """
        if self._session is None:
            raise RuntimeError('the HTTP client is not started; use it once the application runs')
        return self._session

    async def startup(self, app: web.Application) -> None:
        await self.shutdown(app)
        self._session = aiohttp.ClientSession(raise_for_status=True)

    async def shutdown(self, app: web.Application) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def setup(app: web.Application) -> None:
    """Give `app` an `HTTPClient`, if it has none."""
    if not features.has(app, HTTPClient):
        features.add(app, HTTPClient(app))


def get_client(app: web.Application | web.Request) -> HTTPClient:
    """Return the HTTP client of `app`.

    Raises:
        UnknownFeature: (a KeyError) `setup(app)` was not called.
    """
    return features.get(app, HTTPClient)
