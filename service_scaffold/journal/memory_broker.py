"""The broker in memory: one object a URL, shared by journals and event transports."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar

from service_scaffold.clock import Clock, SystemClock
from service_scaffold.journal.base import Record, TopicSpec
from service_scaffold.journal.memory_log import PARTITIONS, Topic
from service_scaffold.journal.memory_network import Network

T = TypeVar('T')

TopicHook = Callable[[str], None]
AppendHook = Callable[[str, Sequence[Record]], None]
RoomHook = Callable[[Collection[str]], Awaitable[None]]


class MemoryBroker:
    """Topics and the way to them. It outlives every client.

    Attributes:
        name: What follows `memory://`; empty for an application's own broker.
        clock: What timestamps are taken from.
        network: Connections and their faults.
        topics: Every topic by name.
        deleted: Names of declared topics that were deleted: no record makes them again.
        on_append: Told of records appended by journals as soon as they are visible to readers of
            committed records.
        on_topic: Told of the name of a topic that was created or deleted.
        wait_for_room: Awaited with the topics that a journal is about to append to.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.clock = clock
        self.network = Network(name, clock)
        self.topics: dict[str, Topic] = {}
        self.deleted: set[str] = set()
        self.on_append: list[AppendHook] = []
        self.on_topic: list[TopicHook] = []
        self.wait_for_room: list[RoomHook] = []
        self._readers: dict[asyncio.Future[None], frozenset[str]] = {}
        self._companions: dict[type[Any], Any] = {}

    def __str__(self) -> str:
        return f'memory://{self.name}'

    def now_ms(self) -> int:
        """Return the clock's time in milliseconds since the epoch."""
        return int(self.clock.time() * 1000)

    def companion(self, kind: type[T], make: Callable[[MemoryBroker], T]) -> T:
        """Return the one object of `kind` that stands beside this broker, made on first use."""
        found = self._companions.get(kind)
        if found is None:
            found = self._companions[kind] = make(self)
        return found

    def topic(self, spec: TopicSpec, *, declared: bool = True) -> Topic:
        """Return the topic, made if it is missing; one that exists keeps its options."""
        topic = self.topics.get(spec.name)
        if topic is None:
            topic = Topic(spec.name, spec.partitions or PARTITIONS, spec.config, declared=declared)
            self.topics[spec.name] = topic
            self.deleted.discard(spec.name)
            self._tell(spec.name)
        topic.declared = topic.declared or declared
        return topic

    def delete_topic(self, name: str) -> None:
        """Delete a topic with its records; readers find their positions lost."""
        topic = self.topics.pop(name, None)
        if topic is not None:
            if topic.declared:
                self.deleted.add(name)
            self._tell(name)

    def appended(self, topic: str, records: Sequence[Record]) -> None:
        """Tell everyone who follows `topic` of records that have become visible."""
        for hook in self.on_append:
            hook(topic, records)
        self.topics[topic].tidy(self.now_ms())
        self.wake({topic})

    def wake(self, topics: Collection[str] | None = None) -> None:
        """Wake the readers that wait for one of these topics, or all of them."""
        for waiter, wanted in list(self._readers.items()):
            if waiter.get_loop().is_closed():
                del self._readers[waiter]
            elif topics is None or not wanted.isdisjoint(topics):
                _finish(waiter)

    async def wait_for_records(self, topics: frozenset[str], timeout_s: float) -> None:
        """Wait until something changes in one of `topics`, at most `timeout_s` of the clock."""
        waiter = asyncio.get_running_loop().create_future()
        alarm = asyncio.ensure_future(self.clock.sleep(timeout_s))
        alarm.add_done_callback(lambda _: _finish(waiter))
        self._readers[waiter] = topics
        try:
            await waiter
        finally:
            alarm.cancel()
            self._readers.pop(waiter, None)

    def _tell(self, topic: str) -> None:
        for hook in self.on_topic:
            hook(topic)
        self.wake()


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


_named: dict[str, MemoryBroker] = {}
_scoped: weakref.WeakKeyDictionary[object, MemoryBroker] = weakref.WeakKeyDictionary()


def find_broker(
    name: str = '', *, scope: object | None = None, clock: Clock | None = None
) -> MemoryBroker:
    """Return the broker of `memory://name`, made on first use.

    Args:
        name: Shared by everyone in the process who uses it. Empty: the broker of `scope`.
        scope: Whose broker a bare `memory://` is, usually the application; it lives as long as
            its scope. Without a scope, a bare URL is a fresh broker each time.
        clock: Used if the broker is made now.
    """
    if name:
        if name not in _named:
            _named[name] = MemoryBroker(name, clock or SystemClock())
        return _named[name]
    if scope is None:
        return MemoryBroker('', clock or SystemClock())
    if scope not in _scoped:
        _scoped[scope] = MemoryBroker('', clock or SystemClock())
    return _scoped[scope]


def discard_broker(name: str) -> None:
    """Forget the broker of `memory://name`: its connections are lost, its content is gone."""
    broker = _named.pop(name, None)
    if broker is not None:
        broker.network.down()
