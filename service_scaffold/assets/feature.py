"""The assets of an application: a connection of their own, and what is known through it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from service_scaffold import errors, events, features, scheduler, transports
from service_scaffold.assets import declarations, metrics, requests
from service_scaffold.assets import record as records
from service_scaffold.assets.answering import Answering
from service_scaffold.assets.methods import Method
from service_scaffold.assets.mirror import Mirror
from service_scaffold.assets.outbox import Change, Outbox
from service_scaffold.assets.owned import OwnedAsset
from service_scaffold.assets.proxy import AssetProxy
from service_scaffold.assets.record import Stored
from service_scaffold.events.connection import Connection
from service_scaffold.events.settings import transport_settings
from service_scaffold.transports import leases
from service_scaffold.transports.base import Transport

LOGGER = logging.getLogger(__name__)

THREADS = 16
"""How many plain functions may run at once, of all assets of an application."""


class AssetsFeature(features.ServiceFeature):
    """Owns assets, and knows all others.

    Args:
        app: The application.

    Attributes:
        mirror: What is known of every asset.
        outbox: What is on its way to the broker.
        host: This process, as others see whether it is there.
        stopping: Set when the application stops.
        owned: The assets that are owned here, by id.
    """

    def __init__(self, app: web.Application) -> None:
        super().__init__(app)
        self._clock = features.get_clock(app)
        self.owned: dict[str, OwnedAsset] = {}
        self._wanted = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begin()

    def _begin(self) -> None:
        """Begin anew, with the options as they are now: a ready-made app may read them again."""
        self._settings = transport_settings(self.app, 'assets')
        self.publish_timeout_s = self._settings.publish_timeout_s
        self.connect_timeout_s = self._settings.connect_timeout_s
        self.host = f'{self._settings.name}.{secrets.token_hex(8)}'
        self.mirror = Mirror(self._foreign, self._clock)
        self.outbox = Outbox(self._send, self._clock)
        self._complete = asyncio.Event()
        self._current = asyncio.Event()
        self._unread: Exception | None = None
        self.stopping = asyncio.Event()
        self._pool = ThreadPoolExecutor(THREADS, 'asset-methods')
        self._connection = Connection(
            f'{self._settings.name} assets', self._open, self.spawn, self._clock, self._follow
        )

    def __repr__(self) -> str:
        return f'<AssetsFeature {self._settings.address} {len(self.owned)} owned>'

    # Life

    async def startup(self, app: web.Application) -> None:
        """Connect; takes no socket unless an asset is owned or opened."""
        self._begin()
        self._loop = asyncio.get_running_loop()
        self.spawn(self.outbox.run(), 'assets outbox')
        self.spawn(self._keep(), 'assets kept')
        if self._wanted or self.owned:
            self._connection.demand()

    async def drain(self, app: web.Application) -> None:
        """End what follows assets over HTTP."""
        self.stopping.set()

    async def before_shutdown(self, app: web.Application) -> None:
        """Make the assets that are owned here unavailable."""
        closing = [asset.close() for asset in tuple(self.owned.values())]
        for error in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(error, errors.ScaffoldError | OSError):
                LOGGER.warning('Not told to others, who will find out by themselves: %s', error)
            elif error is not None:
                raise error

    async def shutdown(self, app: web.Application) -> None:
        """End the connection."""
        transport = self._connection.transport
        if transport is not None and transport.presence is not None:
            await self._leave(transport)
        await self._connection.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._loop = None

    async def _leave(self, transport: Transport) -> None:
        assert transport.presence is not None
        try:
            async with asyncio.timeout(self._settings.publish_timeout_s):
                await transport.presence.leave(self.host)
        except (errors.EventError, OSError) as error:
            LOGGER.warning('Leaving was not told to others: %s', error)

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that it runs in, None while it does not."""
        return self._loop

    def spawn(self, coroutine: Any, name: str) -> asyncio.Task[Any]:
        """Run a coroutine in a task of the application."""
        return scheduler.get_scheduler(self.app).spawn(coroutine, name=name)

    def time(self) -> float:
        """Return epoch seconds."""
        return self._clock.time()

    # The connection

    def _open(self) -> Transport:
        transport = transports.open_transport(self._settings)
        if transport.state is None or transport.presence is None:
            raise errors.BrokerUnreachable(f'{self._settings.address} cannot keep assets')
        self.mirror.meet()
        transport.presence.announce(self.host, b'')
        transport.presence.watch(self._on_lost, self._on_present)
        return transport

    async def _follow(self, transport: Transport) -> None:
        """Keep the mirror up to date while a connection is up."""
        self.outbox.wake()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(transport, tasks))
                tasks.create_task(self._judge())
        except* errors.TransportError as group:
            # And return: a cancellation that came while the group was ending is lost in it.
            self._unread = _first(group)
            transport.lose(self._unread)
        finally:
            self._current.clear()

    async def _read(self, transport: Transport, tasks: asyncio.TaskGroup) -> None:
        assert transport.state is not None
        self.mirror.begin()
        async with contextlib.aclosing(transport.state.snapshot_then_follow()) as items:
            async for item in items:
                if item is None:
                    self._caught_up()
                    tasks.create_task(self._meet(transport))
                else:
                    self.mirror.take(*item)

    async def _meet(self, transport: Transport) -> None:
        """Find out which owners are there."""
        assert transport.presence is not None
        known = self._clock.monotonic()
        await transport.presence.caught_up()
        self.mirror.judge(known)
        self.mirror.doubt()
        self._complete.set()
        self._current.set()
        self._unread = None

    async def _judge(self) -> None:
        """Take for lost, in time, whoever has set an asset and is not there."""
        while True:
            await self._clock.sleep(self._settings.lease_s / 4)
            self.mirror.judge(self._clock.monotonic() - leases.LIMIT * self._settings.lease_s)

    def _caught_up(self) -> None:
        for asset, missing in self.mirror.end().items():
            own = self.owned.get(asset)
            kept = own.writer.lacks(missing) if own is not None else set()
            for id in missing - kept:
                self.mirror.put(asset, id, None)

    async def _keep(self) -> None:
        """Publish again, in time, what a broker keeps for a limited time only."""
        while True:
            await self._clock.sleep(self._settings.retention_s / 3)
            for asset in self.owned.values():
                asset.writer.restore()

    def _foreign(self, asset: str, id: str, record: Stored | None) -> None:
        own = self.owned.get(asset)
        if own is not None:
            own.writer.take(id, record, reading=self.mirror.reading)

    def _on_lost(self, host: str, payload: bytes) -> None:
        self.mirror.gone(host)

    def _on_present(self, host: str, payload: bytes) -> None:
        self.mirror.present(host)

    async def _send(self, changes: Sequence[Change]) -> None:
        async with asyncio.timeout(self._settings.publish_timeout_s):
            transport = await self._connection.obtain()
            assert transport.state is not None
            await transport.state.put_many(changes)

    async def completed(self, timeout_s: float, *, now: bool = False) -> None:
        """Wait until the broker's values are known.

        Args:
            now: Over the present connection: what was known before one was lost is not enough.

        Raises:
            TimeoutError: They are not, within `timeout_s`.
        """
        self._wanted = True
        if self._loop is None:
            raise RuntimeError('Assets are known when the application has started, not before')
        self._connection.demand()
        try:
            async with asyncio.timeout(timeout_s):
                await (self._current if now else self._complete).wait()
        except TimeoutError:
            error = self._connection.error or self._unread
            why = f': {error}' if error else ''
            raise TimeoutError(
                f'The assets on {self._settings.address} are not known within {timeout_s:g} s{why}'
            ) from None

    # Owning

    def own(
        self,
        id: str,
        kind: str = '',
        path: str = '',
        attributes: Mapping[str, Any] | None = None,
        methods: Mapping[str, Any] | None = None,
    ) -> OwnedAsset:
        """Return an asset that this process is going to own; `claim` and `announce` do the rest.

        Raises:
            ValueError: The id is not allowed, or it is owned here already.
            TypeError: An attribute or a method cannot be one.
        """
        if id in self.owned:
            raise ValueError(f'{id} is owned here already')
        given = methods or {}
        found = {name: Method.of(function, name=name) for name, function in given.items()}
        return self.adopt(
            OwnedAsset(
                self,
                id,
                kind=kind,
                path=path,
                attributes=declarations.named(attributes or {}),
                methods=Answering(id, found),
            )
        )

    def adopt(self, asset: OwnedAsset) -> OwnedAsset:
        """Own `asset` from now on."""
        self.owned[asset.id] = asset
        return asset

    def disown(self, asset: OwnedAsset) -> None:
        """Own it no more."""
        if self.owned.get(asset.id) is asset:
            del self.owned[asset.id]

    def answer(self, asset: OwnedAsset) -> events.EventSubscription:
        """Answer the requests to an asset from now on."""
        return requests.answer(events.get_listener(self.app), asset.id, asset.methods, self._pool)

    async def ask(self, asset: str, method: str, arguments: Any, timeout_s: float) -> Any:
        """Call a method of an asset; return what it returns, or raise what `request` does."""
        if not self.mirror.view(asset).has_methods:
            raise errors.UnknownMethod(f'{asset} has no methods')
        publisher = events.get_publisher(self.app)
        return await requests.ask(publisher, asset, method, arguments, timeout_s)

    # Finding

    async def open(self, id: str, timeout_s: float) -> AssetProxy:
        """Return a proxy, when the broker's values are known."""
        records.check_asset_id(id)
        await self.completed(timeout_s)
        return AssetProxy(self, id)

    def metric_families(self) -> Iterable[features.Family]:
        """Tell what is known, owned and published."""
        yield from metrics.families(self.mirror, self.outbox, len(self.owned))
        connected = [(('assets',), int(self._connection.up))]
        yield features.Family(
            'gauge',
            'eventbus_connected',
            'Whether there is a connection to the broker.',
            ('role',),
            connected,
        )

    def health(self) -> features.Health:
        """Report values that are not known or not new, and assets that were taken over."""
        detail: dict[str, object] = {
            'connected': self._connection.up,
            'known': sum(1 for _ in self.mirror.known()),
            'owned': sorted(self.owned),
        }
        fenced = sorted(asset.id for asset in self.owned.values() if asset.fenced)
        if fenced:
            detail['fenced'] = fenced
        current = self._current.is_set() or not (self._wanted or self.owned)
        error = self._connection.error or self._unread
        if error is not None and not current:
            detail['error'] = str(error)
        ok = current and not fenced
        return features.Health(ok=ok, detail=detail)


def get_assets(app: web.Application | web.Request) -> AssetsFeature:
    """Return the assets of an application.

    Raises:
        UnknownFeature: (a KeyError) `assets.setup(app)` was not called.
    """
    return features.get(app, AssetsFeature)


def _first(group: BaseExceptionGroup[errors.TransportError]) -> Exception:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
