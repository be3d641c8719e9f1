"""`AssetApp`: an application that is an asset, with attributes, methods and a main loop."""

from __future__ import annotations

import asyncio
import inspect
import logging
import platform
import threading
from collections.abc import Callable, Mapping, MutableMapping
from types import FrameType
from typing import Any, ClassVar

from service_scaffold import __version__, assets, options
from service_scaffold import storage as files
from service_scaffold.apps import asset_options as table
from service_scaffold.apps.asset_names import check_names
from service_scaffold.apps.base import ReadyMadeApp
from service_scaffold.apps.bridge import Bridge
from service_scaffold.apps.main_loop import MainLoop
from service_scaffold.assets import declarations
from service_scaffold.assets.answering import Answering
from service_scaffold.assets.owned import OwnedAsset
from service_scaffold.assets.record import AVAIL, Attribute

LAST_LIMIT_S = 5.0
"""How long `app_event_loop_stopped` may take at most, when it is async."""


class AssetApp(ReadyMadeApp):
    """An application that is an asset: subclass it, declare what it has, and override one loop.

        class Mill(AssetApp):
            temperature = assets.sample(tag='Temp')

            @assets.method
            async def move(self, x: float, y: float) -> None: ...

            async def async_main_loop(self):
                while True:
                    self.temperature = await measure()

        Mill('mill-1', eventbus_url='kafka://localhost:9092').run()

    Reading a declared attribute gives its record; assigning, from any thread, publishes it soon;
    `await set()` publishes it, confirmed.

    Args:
        asset_id: Default of `--name`, the id of the asset; the environment's `APP_UUID`, as
            platforms set it, comes first.
        log_level: Default of `--log-level`.
        test_mode: Use a bus in memory, whatever else says.
        options: Any option of a service, with underscores, as its default.

    Attributes:
        asset: The asset.
        stopping: Set when the application stops, for `main_loop`.
        sync: What threads call: `sync.set`, `sync.request`, `sync.call`.
        logger: Logs with the asset's id in front.
        APPLICATION_VERSION, APPLICATION_MANUFACTURER, APPLICATION_LICENSE: Shown by the asset, as
            `application_version` and so on. Set them in a subclass; else the environment's
            variables of these names count.

    Raises:
        TypeError: Both loops are overridden; a keyword is unknown; an attribute or a method has a
            name that the application has itself, as `stop`.
        ValueError: An id or a declared value cannot be one.
        SystemExit: With status 2: an option has a wrong value.
    """

    APPLICATION_VERSION: str
    APPLICATION_MANUFACTURER: str
    APPLICATION_LICENSE: str

    PREFIX: ClassVar[str | None] = None

    ASSETS_PATH: ClassVar[str] = '/assets'
    """Where assets stand over HTTP, below the service's prefix."""

    def __init__(
        self,
        asset_id: str | None = None,
        *,
        log_level: str | None = 'INFO',
        test_mode: bool = False,
        **options: Any,
    ) -> None:
        self._test_mode = test_mode
        self._made = False
        self._check_loops()
        check_names(type(self))
        super().__init__(asset_id, {'log_level': log_level, **options})
        self.stopping = threading.Event()
        self.sync = Bridge(self)
        files.setup(self.application)
        assets.setup(self.application, self.ASSETS_PATH)
        self._made = True
        self._identity = self._said()
        self._identify({})
        self._loop = MainLoop(
            self.application,
            lambda: self.asset,
            self.main_loop if self._overrides('main_loop') else None,
            self.async_main_loop if self._overrides('async_main_loop') else None,
            self._ask_to_stop,
            self.stopping,
        )

    # Declaring

    def _said(self) -> tuple[Any, ...]:
        """Return what the options say of the asset; flags are read later than the rest."""
        keys = ('name', 'replica', *(f'application_{name}' for name in table.SHOWN))
        return tuple(self.config[key] for key in keys)

    def _identify(self, early: Mapping[str, Any]) -> None:
        """Be the asset that the options say."""
        for name in table.SHOWN:
            attribute = f'APPLICATION_{name.upper()}'
            if not hasattr(type(self), attribute):
                setattr(self, attribute, self.config[f'application_{name}'])
        name, slot = str(self.config['name']), self.config['replica']
        id = name if slot is None else f'{name}-{slot}'
        attributes = {
            **declarations.declared_in(type(self)),
            **declarations.named(self._shown()),
        }
        self.logger: logging.LoggerAdapter[logging.Logger] = _Prefixed(logging.getLogger(id), {})
        self.asset = OwnedAsset(
            assets.get_assets(self.application),
            id,
            kind='application',
            attributes=attributes,
            methods=Answering(id, declarations.methods_of(self)),
            early=early,
        )

    def _shown(self) -> Mapping[str, Any]:
        return {
            f'application_{name}': assets.event(
                getattr(self, f'APPLICATION_{name.upper()}'), tag=f'Application.{name.title()}'
            )
            for name in table.SHOWN
        }

    def _overrides(self, name: str) -> bool:
        return getattr(type(self), name) is not getattr(AssetApp, name)

    def _check_loops(self) -> None:
        if self._overrides('main_loop') and self._overrides('async_main_loop'):
            raise TypeError(
                f'{type(self).__name__} overrides main_loop and async_main_loop: choose one'
            )

    def add_arguments(self, parser: options.OptionParser) -> None:
        """Add the options of this app."""
        options.add_options(parser, table.OPTIONS, 'asset')

    def configured(self) -> None:
        """Take the options, also of a second reading."""
        if self._test_mode:
            self.config['eventbus_url'] = 'memory://'
        if self._made and self._said() != self._identity:
            self._identity = self._said()
            self._identify(self.asset.early)

    # The asset

    def read(self, id: str) -> Attribute:
        """Return an attribute's record."""
        return self.asset[id]

    def assign(self, id: str, value: Any) -> None:
        """Set an attribute some time soon, from any thread."""
        self.asset.assign(id, value)

    async def set(self, id: str, value: Any, **more: Any) -> None:
        """Set an attribute, confirmed; see `OwnedAsset.set`."""
        await self.asset.set(id, value, **more)

    async def set_many(self, values: Mapping[str, Any]) -> None:
        """Set attributes in one go; see `OwnedAsset.set_many`."""
        await self.asset.set_many(values)

    async def open(self, asset_id: str, *, timeout_s: float | None = None) -> assets.AssetProxy:
        """Return a proxy of another asset; see `assets.open`."""
        return await assets.open(self.application, asset_id, timeout_s=timeout_s)

    @property
    def avail(self) -> Attribute:
        """The record of the asset's availability."""
        return assets.get_assets(self.application).mirror.view(self.asset.id).get(AVAIL)

    @property
    def storage(self) -> files.Backend | None:
        """The files that `STORAGE` names; None when it names none."""
        return files.get_storage(self.application).default

    @property
    def storages(self) -> files.Storages:
        """The files of each name, when `STORAGE` has several."""
        return files.get_storage(self.application)

    # What a subclass overrides

    def welcome_banner(self) -> None:
        """Print what this is; override it for a banner of your own."""
        rule = '-' * 60
        print(
            rule,
            f'{type(self).__name__} {self.asset.id}',
            *(
                f'  {name.title() + ":":14} {getattr(self, f"APPLICATION_{name.upper()}")}'
                for name in table.SHOWN
            ),
            f'  service_scaffold {__version__}, Python {platform.python_version()}',
            rule,
            sep='\n',
            flush=True,
        )

    def main_loop(self) -> None:
        """Override it to work in a thread of its own; wait with `sleep`, end on `stopping`."""
        raise NotImplementedError(self._no_loop())

    async def async_main_loop(self) -> None:
        """Override it to work on the event loop; cancelled when the application stops."""
        raise NotImplementedError(self._no_loop())

    def app_event_loop_stopped(self) -> Any:
        """Override it, sync or async, for what comes last, when everything has stopped."""

    def _no_loop(self) -> str:
        return f'{type(self).__name__} must override main_loop or async_main_loop'

    # Life

    def sleep(self, seconds: float) -> None:
        """Wait, in `main_loop`, for that long, or until the application stops."""
        self.stopping.wait(seconds)

    async def async_run(self) -> int:
        """Do what `run` does, in the running loop; return the exit status."""
        return await self.run_async()

    def signal_handler(self, signum: int, frame: FrameType | None) -> None:
        """Stop in order, as SIGTERM and SIGINT do: the asset becomes unavailable, its values stay.

        May be called from any thread.
        """
        request = self._stop_request
        if request is None:
            self.logger.info('Received signal %s, but does not run', signum)
            return
        self.logger.info('Received signal %s, stopping gracefully', signum)
        request.set_soon()

    def _ask_to_stop(self) -> None:
        if self._stop_request is not None:
            self._stop_request.set()

    async def before_start(self) -> None:
        """Say what this is."""
        self.welcome_banner()

    async def until_ready(self) -> None:
        """Wait until the asset is available."""
        await self._loop.available.wait()

    async def _serve(self, **settings: Any) -> int:
        started: Callable[[], None] | None = settings.pop('on_started', None)

        def on_started() -> None:
            self._loop.serving.set()
            if started is not None:
                started()

        if not (self._overrides('main_loop') or self._overrides('async_main_loop')):
            raise NotImplementedError(self._no_loop())
        self._loop.waits_to_serve = True
        try:
            return await super()._serve(on_started=on_started, **settings)
        finally:
            await self._stopped()

    async def _stopped(self) -> None:
        try:
            answer = self.app_event_loop_stopped()
            if inspect.isawaitable(answer):
                await asyncio.wait_for(answer, min(LAST_LIMIT_S, self.config['shutdown_timeout_s']))
        except Exception:
            self.logger.exception('app_event_loop_stopped failed')


class _Prefixed(logging.LoggerAdapter[logging.Logger]):
    """Puts the asset's id in front of each line."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        return f'[{self.logger.name}] {msg}', kwargs
