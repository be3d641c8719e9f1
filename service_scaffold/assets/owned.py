"""An asset that is owned here: its attributes are set, its methods answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from service_scaffold import events
from service_scaffold.assets import record as records
from service_scaffold.assets import writer
from service_scaffold.assets.answering import Answering
from service_scaffold.assets.declarations import Declared
from service_scaffold.assets.mirror import key_of
from service_scaffold.assets.outbox import Change
from service_scaffold.assets.record import (
    ABOVE,
    AVAIL,
    AVAILABLE,
    BELOW,
    KIND,
    PATH,
    UNAVAILABLE,
    Attribute,
    Kind,
    Stored,
)
from service_scaffold.assets.view import View


class Surroundings(writer.Surroundings, Protocol):
    """What an owned asset asks of the feature it belongs to."""

    def answer(self, asset: OwnedAsset) -> events.EventSubscription: ...

    def disown(self, asset: OwnedAsset) -> None: ...


class OwnedAsset:
    """An asset whose only writer is this process.

    Every record it sets is published under its epoch, which is larger than that of any owner
    before: an older owner that is still alive notices, and is fenced.

    Attributes:
        id: The asset's id.
        methods: What others may call.
        writer: What publishes its records.
        early: What was assigned while it was not open; None does not allow that. Set, and let go
            of, when it is claimed.

    Raises:
        ValueError: An id is not allowed, or a declared value is no JSON.
        TypeError: An attribute and a method have one name.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        id: str,
        *,
        attributes: Mapping[str, Declared],
        methods: Answering,
        kind: str = '',
        path: str = '',
        early: Mapping[str, Any] | None = None,
    ) -> None:
        self.id = records.check_asset_id(id)
        self.methods = methods
        self.writer = writer.Writer(surroundings, id, self._stop_answering)
        self._around = surroundings
        self._kind = kind
        self._path = path
        self._declared = {records.check_attribute_id(name): attributes[name] for name in attributes}
        self.early = dict(early or {})
        self._waits = early is not None
        self._answering: events.EventSubscription | None = None
        for name, declared in self._declared.items():
            records.check_value(id, name, declared.start_value)
        both = sorted(name for name in attributes if name in methods)
        if both:
            raise TypeError(f'{id}: {both[0]!r} is an attribute and a method')

    def __repr__(self) -> str:
        return f'<OwnedAsset {self.id}>'

    # Reading

    @property
    def _view(self) -> View:
        return self._around.mirror.view(self.id)

    @property
    def fenced(self) -> bool:
        """Whether a newer owner has taken over."""
        return self.writer.fenced

    @property
    def available(self) -> bool:
        """Whether others see it as available, with us as its owner."""
        return self.writer.writing and self._view.available

    def __getitem__(self, id: str) -> Attribute:
        """Return an attribute's record.

        Raises:
            UnknownAttribute: (a KeyError) Neither declared nor set.
        """
        latest = self.writer.latest(id)
        if latest is not None:
            return self._view.shown(id, latest)
        declared = self._declared.get(id)
        if declared is not None and (id in self.early or id not in self._view):
            value = self.early.get(id, declared.start_value)
            return Attribute(self.id, id, value, declared.kind, declared.tag, 0.0, 'stale')
        return self._view.attribute(id)

    @property
    def above(self) -> frozenset[str]:
        """The assets that this one stands below."""
        return self._around.mirror.above(self.id)

    @property
    def below(self) -> frozenset[str]:
        """The assets that stand below this one."""
        return self._around.mirror.below(self.id)

    # Setting

    async def set(
        self, id: str, value: Any, *, kind: Kind | None = None, tag: str | None = None
    ) -> None:
        """Set an attribute; return when the broker has confirmed it.

        An attribute that was not declared is declared by its first value: a number makes a
        sample, anything else an event.

        Args:
            kind, tag: Of an attribute that was not declared.

        Raises:
            Fenced: A newer owner has taken over.
            PublishError: (a ConnectionError) The broker has not confirmed it in time.
            EncodeError: (a ValueError) JSON cannot express the value.
            ValueError: The id cannot name an attribute.
        """
        if kind is not None or tag is not None:
            self._declare(id, kind or records.kind_of(value), tag or '')
        await self.set_many({id: value})

    async def set_many(self, values: Mapping[str, Any]) -> None:
        """Set attributes in one go; raises what `set` does, and then some may have been set."""
        self.writer.check()
        good = {id: self._checked(id, value) for id, value in values.items()}
        await self.writer.put({id: self._record(id, value) for id, value in good.items()})

    def assign(self, id: str, value: Any) -> None:
        """Set an attribute some time soon, from any thread: the newest unsent value wins.

        After a newer owner has taken over nothing comes of it: that was logged.

        Raises:
            EncodeError, ValueError: As `set` does.
            AssetUnavailable: It was closed or forgotten.
        """
        value = self._checked(id, value)
        if self._waits and not self.writer.epoch:
            self.early[id] = value
            if not self.writer.epoch or self.early.pop(id, None) is None:
                return  # `claim` takes it
        if self.writer.fenced:
            return
        self.writer.check()
        self.early.pop(id, None)
        declared = self._declared[id]
        self.writer.assign(id, value, declared.kind, declared.tag)

    def _checked(self, id: str, value: Any) -> Any:
        if id not in self._declared and id in self.methods:
            raise ValueError(f'{self.id}.{id} is a method, and cannot be set')
        value = records.check_value(self.id, id, value)
        if id not in self._declared:
            self._declare(id, records.kind_of(value), '')
        return value

    def _declare(self, id: str, kind: Kind, tag: str) -> None:
        declared = Declared(kind, UNAVAILABLE, tag)
        declared.id = records.check_attribute_id(id)
        self._declared[id] = declared

    def _record(self, id: str, value: Any) -> Stored:
        declared = self._declared[id]
        return self.writer.make(value, declared.kind, declared.tag)

    # Owning

    async def claim(self) -> None:
        """Take the asset over, and publish what it declares; it is not available yet.

        Raises:
            PublishError: (a ConnectionError) The broker has not confirmed it in time.
        """
        self.writer.begin()
        made: dict[str, Stored | None] = {
            id: None
            for id, record in self._view.records.items()
            if record.kind == 'method' and id not in self.methods
        }
        made.update(self._declarations())
        if made:
            await self.writer.put(made)
        self.writer.check()
        for id in tuple(self.early):
            if id in self.early:
                self.assign(id, self.early.pop(id))
        if self.methods and self._answering is None:
            self._answering = self._around.answer(self)

    def _declarations(self) -> dict[str, Stored]:
        make = self.writer.make
        made = {
            id: self._record(id, records.check_value(self.id, id, declared.value))
            for id, declared in self._declared.items()
            if declared.has_value and id not in self.early
        }
        for name, contract in self.methods.contracts().items():
            made[name] = make(contract, 'method', 'Method')
        if self._kind:
            made[KIND] = make(self._kind, 'system', 'Kind')
        if self._path:
            made[PATH] = make(self._path, 'system', 'Path')
        return made

    async def announce(self) -> None:
        """Be available, once the methods are answered.

        Raises:
            TimeoutError, PublishError: The broker has not confirmed it in time.
        """
        self.writer.check()
        if self._answering is not None:
            await self._answering.wait_active(self._around.publish_timeout_s)
        await self.writer.put({AVAIL: self._availability(AVAILABLE, '')})

    def _availability(self, value: str, reason: str) -> Stored:
        host = self._around.host
        return self.writer.make(value, 'system', 'Availability', host=host, reason=reason)

    async def close(self) -> None:
        """Be unavailable, and let go of the asset; its values stay. Idempotent.

        Raises:
            PublishError: (a ConnectionError) The broker has not confirmed it in time: it is told
                when that can be, or found out when this process ends, after the lease.
        """
        self._around.disown(self)
        self._stop_answering()
        if not self.writer.writing:
            return
        try:
            await self.writer.put({AVAIL: self._availability(UNAVAILABLE, 'stopped')})
        except BaseException:
            self.abandon()
            raise
        self.writer.end()

    def abandon(self) -> None:
        """Let go of the asset without waiting: if others know that we own it, it will be told."""
        self._around.disown(self)
        self._stop_answering()
        if self.writer.writing and self.writer.sent:
            self.writer.post(AVAIL, self._availability(UNAVAILABLE, 'stopped'))
        self.writer.end()

    async def forget(self) -> None:
        """Remove the asset everywhere, and the references to it.

        Raises:
            Fenced, PublishError: As `set` does; it is owned still, and may be forgotten again.
        """
        self.writer.check()
        mirror = self._around.mirror
        keys = [(self.id, id) for id in self._view.records] + mirror.references_to(self.id)
        changes: list[Change] = [(key_of(asset, id), None) for asset, id in keys]
        with self.writer.forgetting():
            await self.writer.put_raw(changes)
        self._around.disown(self)
        self._stop_answering()
        self.writer.end()
        for asset, id in keys:
            mirror.put(asset, id, None)

    def _stop_answering(self) -> None:
        answering, self._answering = self._answering, None
        if answering is not None:
            answering.unsubscribe()

    # References

    async def link(self, *, above: str | None = None, below: str | None = None) -> None:
        """Stand above or below another asset; both sides show it. Idempotent.

        Args:
            above: The asset that this one stands above.
            below: The asset that this one stands below.

        Raises:
            Fenced, PublishError: As `set` does.
            ValueError: Neither is given, or it is this asset itself.
        """
        self.writer.check()
        make = self.writer.make
        references = _references(self.id, above, below)
        await self.writer.put({id: make(True, 'system', 'Reference') for id, _ in references})

    async def unlink(self, *, above: str | None = None, below: str | None = None) -> None:
        """Undo `link`, whichever side has made it; idempotent. Raises what `link` does."""
        self.writer.check()
        mirror = self._around.mirror
        references = _references(self.id, above, below)
        await self.writer.put({id: None for id, _ in references})
        theirs = [(asset, id) for _, (asset, id) in references if id in mirror.view(asset)]
        if theirs:
            await self.writer.put_raw([(key_of(asset, id), None) for asset, id in theirs])
        for asset, id in theirs:
            mirror.put(asset, id, None)


def _references(
    asset: str, above: str | None, below: str | None
) -> list[tuple[str, tuple[str, str]]]:
    """Return, for each reference, the attribute here, and asset and attribute on its other side."""
    found = []
    for other, here, there in ((below, ABOVE, BELOW), (above, BELOW, ABOVE)):
        if other is None:
            continue
        if records.check_asset_id(other) == asset:
            raise ValueError(f'{asset} cannot stand above or below itself')
        found.append((here + other, (other, there + asset)))
    if not found:
        raise ValueError('Name the other asset: link(above=…) or link(below=…)')
    return found
