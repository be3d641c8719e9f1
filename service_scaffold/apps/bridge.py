"""The way from other threads, as those of Flask's views, to an application's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from aiohttp import web

from service_scaffold import assets

T = TypeVar('T')

LIMIT_S = 30.0
"""How long a thread waits, unless it says."""


class Owner(Protocol):
    """Whose event loop it is."""

    application: web.Application

    async def set(self, id: str, value: Any) -> None: ...

    async def set_many(self, values: Mapping[str, Any]) -> None: ...


class Bridge:
    """What threads may call; each call waits for its end, within a limit.

    On the event loop itself a call would wait for itself: there it raises RuntimeError.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_s: float = LIMIT_S) -> T:
        """Run a coroutine on the event loop; return what it returns.

        Raises:
            TimeoutError: It has not ended in time, and was cancelled.
            RuntimeError: Called on the application's event loop, or the application does not run.
        """
        loop = assets.get_assets(self._owner.application).loop
        if loop is None or loop.is_closed():
            coroutine.close()
            raise RuntimeError('The application does not run')
        if asyncio._get_running_loop() is loop:
            coroutine.close()
            raise RuntimeError(
                "Called on the application's event loop: await the asynchronous method instead"
            )
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            if future.done():
                raise
            future.cancel()
            raise TimeoutError(f'Not done within {timeout_s:g} s') from None

    def set(self, id: str, value: Any, *, timeout_s: float = LIMIT_S) -> None:
        """Set an attribute, confirmed."""
        self.call(self._owner.set(id, value), timeout_s)

    def set_many(self, values: Mapping[str, Any], *, timeout_s: float = LIMIT_S) -> None:
        """Set attributes in one go, confirmed."""
        self.call(self._owner.set_many(values), timeout_s)

    def request(
        self,
        asset: str,
        method: str,
        /,
        *,
        timeout_s: float = LIMIT_S,
        queue: bool = False,
        **arguments: Any,
    ) -> Any:
        """Call a method of an asset; raises what `AssetProxy.request` does."""

        async def ask() -> Any:
            proxy = await assets.open(self._owner.application, asset, timeout_s=timeout_s)
            return await proxy.request(method, timeout_s=timeout_s, queue=queue, **arguments)

        return self.call(ask(), timeout_s + 1)
