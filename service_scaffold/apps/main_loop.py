"""The main loop of an application: in a thread of its own, or on the event loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Awaitable, Callable

from aiohttp import web

from service_scaffold import errors, features, scheduler
from service_scaffold.assets.feature import get_assets
from service_scaffold.assets.owned import OwnedAsset
from service_scaffold.backoff import Backoff

LOGGER = logging.getLogger(__name__)

THREAD_LIMIT_S = 5.0
"""How long a stop waits for a thread to notice; it dies with the process, then."""


class MainLoop(features.ServiceFeature):
    """Makes an asset available when the service serves, then runs its main loop.

    When the loop raises, that is logged once, and the service stops with status 1; when it returns,
    or exits with no code or 0, the service stops with status 0.

    Args:
        app: The application.
        asset: Tells which asset it is; asked at the start.
        blocking: The loop, when it is for a thread of its own.
        run: The loop, when it is for the event loop.
        stop: Stops the service.
        stopping: Set for the thread when the service stops.

    Attributes:
        waits_to_serve: Whether somebody sets `serving`; else the asset is available as soon as
            the features have started, as with a runner that is not ours.
        serving: Set when the service serves HTTP.
        available: Set when the asset is available.
    """

    def __init__(
        self,
        app: web.Application,
        asset: Callable[[], OwnedAsset],
        blocking: Callable[[], object] | None,
        run: Callable[[], Awaitable[object]] | None,
        stop: Callable[[], None],
        stopping: threading.Event,
    ) -> None:
        super().__init__(app)
        self.waits_to_serve = False
        self.serving = self.available = asyncio.Event()  # each start makes its own
        self._find = asset
        self._blocking = blocking
        self._run = run
        self._stop = stop
        self._stopping = stopping
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self._asset: OwnedAsset | None = None

    async def startup(self, app: web.Application) -> None:
        """Begin to own the asset.

        Raises:
            RuntimeError: The thread of an earlier run still works.
        """
        if self._thread is not None and self._thread.is_alive():
            raise RuntimeError('main_loop of the last run has not ended, and there is only one')
        self._thread = None
        self._asset = self._find()
        self.serving, self.available = asyncio.Event(), asyncio.Event()
        if not self.waits_to_serve:
            self.serving.set()
        self._stopping.clear()
        live = self._live(self._asset)
        self._task = scheduler.get_scheduler(app).spawn(live, name='main loop')

    async def drain(self, app: web.Application) -> None:
        """End the loop, while everything it may use is still there."""
        self._stopping.set()
        task, self._task = self._task, None
        if task is None:
            return
        if self._thread is not None:
            limit_s = min(THREAD_LIMIT_S, features.get_lifecycle(app).remaining_s / 4)
            await asyncio.wait({task}, timeout=limit_s)
            if not task.done():
                LOGGER.warning(
                    'main_loop has not ended within %.1f s and is left behind: let it look at'
                    ' self.stopping, and wait with self.sleep',
                    limit_s,
                )
        task.cancel()
        await asyncio.wait({task})

    async def shutdown(self, app: web.Application) -> None:
        """Have nothing left to do."""

    async def _live(self, asset: OwnedAsset) -> None:
        try:
            await self._own(asset)
            if self._run is not None:
                await self._run()
            elif self._blocking is not None:
                await self._in_thread(self._blocking)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._fail(error)  # it is not we who were cancelled, but what the loop awaited
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  # logged
            if isinstance(error, SystemExit) and not error.code:
                self._end()
            else:
                self._fail(error)
        else:
            self._end()

    def _fail(self, error: BaseException) -> None:
        if self._stopping.is_set():
            LOGGER.warning('The main loop has ended with an error while stopping: %r', error)
            return
        LOGGER.error('An error occurred in the main loop; stopping', exc_info=error)
        features.get_lifecycle(self.app).fail(
            error
            if isinstance(error, Exception)
            else RuntimeError(f'The main loop ended with {error!r}')
        )

    def _end(self) -> None:
        if not self._stopping.is_set():
            LOGGER.info('The main loop has returned; stopping')
            self._stop()

    async def _own(self, asset: OwnedAsset) -> None:
        """Publish the asset, and make it available once the service serves."""
        feature = get_assets(self.app)
        feature.adopt(asset)

        async def claim() -> None:
            await feature.completed(feature.connect_timeout_s, now=True)
            await asset.claim()

        await self._until_done(asset.id, claim)
        await self.serving.wait()
        await self._until_done(asset.id, asset.announce)
        self.available.set()

    async def _until_done(self, id: str, action: Callable[[], Awaitable[None]]) -> None:
        """Do what needs a broker, again until there is one."""
        backoff, clock = Backoff(), features.get_clock(self.app)
        for failures in itertools.count():
            try:
                await action()
            except (errors.EventError, TimeoutError) as error:
                level = logging.DEBUG if failures else logging.WARNING
                LOGGER.log(level, '%s is not available yet, will keep trying: %s', id, error)
            else:
                return
            await clock.sleep(backoff.delay(failures + 1))

    async def _in_thread(self, blocking: Callable[[], object]) -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[BaseException | None] = loop.create_future()

        def tell(error: BaseException | None) -> None:
            if not ended.done():
                ended.set_result(error)

        def run() -> None:
            error: BaseException | None = None
            try:
                blocking()
            except BaseException as raised:  # noqa: BLE001  # told to the event loop
                error = raised
            try:
                loop.call_soon_threadsafe(tell, error)
            except RuntimeError:  # the loop is closed: nobody waits for us any more
                LOGGER.debug('main_loop has ended after the service')

        self._thread = threading.Thread(target=run, name='main_loop', daemon=True)
        self._thread.start()
        error = await ended
        if error is not None:
            raise error

    def health(self) -> features.Health | None:
        """Hold readiness until the asset is available."""
        if self._asset is None:
            return None
        ok = self.available.is_set()
        detail: dict[str, object] = {'asset': self._asset.id, 'available': ok}
        return features.Health(ok=ok, ready=ok, detail=detail)
