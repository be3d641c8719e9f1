"""An asset seen from anywhere: its values, its changes, its methods."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol

from service_scaffold import errors
from service_scaffold.assets import requests
from service_scaffold.assets.mirror import Mirror
from service_scaffold.assets.record import AVAIL, Attribute, Kind
from service_scaffold.assets.view import View
from service_scaffold.assets.watching import OnChange, Spawn, Watch

AGAIN_S = 0.2
"""How soon a call that may wait is sent again, when it has reached nobody."""


class Surroundings(Protocol):
    """What a proxy asks of the feature it belongs to."""

    mirror: Mirror

    @property
    def spawn(self) -> Spawn: ...

    async def ask(self, asset: str, method: str, arguments: Any, timeout_s: float) -> Any: ...


class AssetProxy:
    """An asset, whoever owns it: made by `assets.open`.

    Reading is from memory, and as new as what the broker has told. Iterating yields the ids of the
    attributes; `id in proxy` tells whether there is one.

    Attributes:
        id: The asset's id.
    """

    def __init__(self, surroundings: Surroundings, id: str) -> None:
        self.id = id
        self._around = surroundings
        self._watches: list[Watch] = []

    def __repr__(self) -> str:
        return f'<AssetProxy {self.id}>'

    # Reading

    @property
    def _view(self) -> View:
        return self._around.mirror.view(self.id)

    def __getitem__(self, id: str) -> Attribute:
        """Return an attribute's record.

        Raises:
            UnknownAttribute: (a KeyError) Nothing is known of it.
        """
        return self._view.attribute(id)

    def get(self, id: str) -> Attribute:
        """Return an attribute's record; one that says UNAVAILABLE when nothing is known of it."""
        return self._view.get(id)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._view))

    def __len__(self) -> int:
        return len(self._view)

    def __contains__(self, id: object) -> bool:
        return id in tuple(self._view)

    def __bool__(self) -> bool:
        return True

    def attributes(self, kind: Kind | None = None) -> dict[str, Attribute]:
        """Return the attributes by id, those of one kind or all."""
        found = self._view.attributes()
        return {id: one for id, one in found.items() if kind in (None, one.kind)}

    @property
    def available(self) -> bool:
        """Whether its owner is there."""
        return self._view.available

    @property
    def known(self) -> bool:
        """Whether anything is known of it."""
        return self._view.known

    @property
    def kind(self) -> str:
        """What the asset is, as its owner says; '' when it does not."""
        return self._view.kind

    @property
    def path(self) -> str:
        """Where the asset stands, as its owner says; '' when it does not."""
        return self._view.path

    @property
    def above(self) -> frozenset[str]:
        """The assets that it stands below."""
        return self._around.mirror.above(self.id)

    @property
    def below(self) -> frozenset[str]:
        """The assets that stand below it."""
        return self._around.mirror.below(self.id)

    # Following

    def subscribe(
        self, on_change: OnChange, *, attribute: str | None = None, kind: Kind | None = None
    ) -> Watch:
        """Have `on_change(attribute)` called for each change from now on, in order.

        Each callback is called by itself: one that is slow or raises disturbs no other.

        Args:
            on_change: A function or coroutine function.
            attribute: The id of the only attribute that matters.
            kind: The only kind that matters.

        Returns:
            What to `close()` to end it; `close` of the proxy does so, too.
        """
        mirror = self._around.mirror
        view = mirror.watched(self.id)

        def closed(watch: Watch) -> None:
            if watch in view.watches:
                view.watches.remove(watch)
                self._watches.remove(watch)
                mirror.let_go(self.id)

        watch = Watch(on_change, self._around.spawn, closed, attribute, kind)
        view.watches.append(watch)
        self._watches.append(watch)
        return watch

    async def wait_for(
        self, id: str, predicate: Callable[[Any], object], timeout_s: float = 30.0
    ) -> Any:
        """Return an attribute's value as soon as `predicate(value)` is true, now or later.

        Raises:
            TimeoutError: It has not been within `timeout_s`.
            TypeError: `predicate` cannot be called.
        """
        if not callable(predicate):
            raise TypeError(f'wait_for takes a function of the value, not {predicate!r}')
        found: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def look(attribute: Attribute) -> None:
            if found.done():
                return
            try:
                if predicate(attribute.value):
                    found.set_result(attribute.value)
            except Exception as error:  # noqa: BLE001  # the caller's own, and for the caller
                found.set_exception(error)

        watch = self.subscribe(look, attribute=id)
        try:
            if id in self._view:
                look(self._view.attribute(id))
            async with asyncio.timeout(timeout_s):
                return await found
        except TimeoutError:
            if found.done():
                raise
            last = self.get(id).value
            raise TimeoutError(
                f'{self.id}.{id} has not become what was waited for within {timeout_s:g} s;'
                f' it is {last!r:.80}'
            ) from None
        finally:
            watch.close()

    # Asking

    async def request(
        self, method: str, /, *, timeout_s: float = 30.0, queue: bool = False, **arguments: Any
    ) -> Any:
        """Call a method of the asset; return what it returns. It is executed at most once.

        Args:
            method: Its name.
            timeout_s: Seconds to wait for the answer; the method is not begun later than that.
            queue: When the asset is away, wait for it, within `timeout_s`.
            arguments: By name.

        Raises:
            BadRequest: Arguments are missing, unknown, or of a wrong type; `errors` lists all.
            UnknownMethod: The asset has no such method.
            AssetUnavailable: Its owner is away, or went away before it answered.
            MethodFailed: The method raised.
            TimeoutError: No answer in time; the method may have been executed.
        """
        return await self.call(method, arguments, timeout_s=timeout_s, queue=queue)

    async def call(
        self,
        method: str,
        arguments: Mapping[str, Any],
        *,
        timeout_s: float = 30.0,
        queue: bool = False,
    ) -> Any:
        """Do what `request` does, with arguments of any name."""
        until = asyncio.get_running_loop().time() + timeout_s
        while True:
            if not self.available:
                await self._until_available(method, until, timeout_s, queue)
            left_s = _left_s(until)
            try:
                return await self._unless_lost(
                    self._around.ask(self.id, method, dict(arguments), left_s), method
                )
            except errors.AssetUnavailable as error:
                if not queue or not requests.not_begun(error) or left_s <= AGAIN_S:
                    raise
            await asyncio.sleep(AGAIN_S)

    async def _until_available(
        self, method: str, until: float, timeout_s: float, queue: bool
    ) -> None:
        if not queue:
            raise errors.AssetUnavailable(
                f'{self.id} is not available, so {method} cannot be called; a queued call'
                ' (queue=True, --queue) waits for it'
            )
        try:
            await self.wait_for(AVAIL, lambda _: self.available, _left_s(until))
        except TimeoutError:
            raise TimeoutError(
                f'{self.id} has not become available within {timeout_s:g} s: {method} was not'
                ' called'
            ) from None

    async def _unless_lost(self, asking: Awaitable[Any], method: str) -> Any:
        """Return the answer, or raise as soon as whoever was asked has gone."""
        host = self._view.host
        gone = asyncio.Event()

        def look(_: Attribute) -> None:
            if not self.available or self._view.host != host:
                gone.set()

        watch = self.subscribe(look, attribute=AVAIL)
        answer = asyncio.ensure_future(asking)
        lost = asyncio.ensure_future(gone.wait())
        try:
            await asyncio.wait({answer, lost}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise errors.AssetUnavailable(
                f'{self.id} went away before it answered {method}, which may have been executed'
            )
        finally:
            watch.close()
            lost.cancel()
            answer.cancel()
            await asyncio.wait({answer, lost})

    async def close(self) -> None:
        """End what was subscribed through this proxy. Idempotent."""
        for watch in tuple(self._watches):
            watch.close()


def _left_s(until: float) -> float:
    return max(until - asyncio.get_running_loop().time(), 0.001)
