"""Declaring channels, and streams that are read outside of agents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Iterable
from typing import Any

from service_scaffold.streams.channel import Channel
from service_scaffold.streams.rpc import Calls
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.stream import Stream
from service_scaffold.streams.topic import Outlet, Topic


class Channels(Outlet, ABC):
    """Declares what is not a topic."""

    settings: StreamSettings
    calls: Calls
    _channels = 0

    @abstractmethod
    def topic(self, topic: str) -> Topic:
        """Return the topic of a name."""

    def channel(
        self,
        *,
        key_type: Any = None,
        value_type: Any = None,
        maxsize: int | None = None,
        name: str | None = None,
    ) -> Channel:
        """Declare a channel: values that stay in this process; see `Channel`.

        Args:
            key_type, value_type: What keys and values are checked against.
            maxsize: How many values may wait, default as many as of a topic.
            name: Default one with a number.
        """
        self._channels += 1
        return Channel(
            name or self.prefixed(f'channel-{self._channels}'),
            self,
            lambda: self.calls.clock,
            key_type=key_type,
            value_type=value_type,
            maxsize=self.settings.buffer if maxsize is None else maxsize,
        )

    def stream(self, source: Any) -> Stream:
        """Return the stream of a channel, of an iterable, synchronous or not, or of a topic.

        The first two can be iterated over anywhere, with all methods of a stream but `group_by`,
        `through` and joins; that of a topic is for an agent, or for a join.

        Raises:
            TypeError: It is none of these.
        """
        if isinstance(source, Channel | Topic):
            return source.stream()
        if isinstance(source, str):
            return self.topic(source).stream()
        if not isinstance(source, Iterable | AsyncIterable):
            raise TypeError(f'A channel, a topic or an iterable is needed, not {source!r}')
        return self.channel().over(source)
