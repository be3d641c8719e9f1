"""Iterating over events: one at a time, in batches, with what happens to them on the way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol, Self

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.streams.event import Event
from service_scaffold.streams.plan import Hop, Source
from service_scaffold.streams.spans import Span, seconds
from service_scaffold.streams.steps import Step


class Reads(Protocol):
    """Whoever reads a stream: a lane, or one who only finds out what the body does with it."""

    @property
    def clock(self) -> Clock: ...

    async def next(self, *, keep: bool = False, until: float | None = None) -> Event | None: ...

    def hop(self, stream: Readable, name: str, make: Callable[[str], Hop]) -> Hop: ...

    def check(self, stream: Readable) -> None: ...

    def skip(self, event: Event) -> None: ...

    def batch_limit(self, wanted: int) -> int: ...

    def ack_by_hand(self) -> None: ...

    async def ack(self, event: Event) -> None: ...

    def named(self, name: str) -> Source: ...


class Readable(ABC):
    """The values of a topic, one after another: what a body does with them.

    Args:
        source: Where the values come from.
        lane: Who reads, None for a stream that is only declared.
        steps: What happens to each event before the body sees it.
        hops: What brings the events to the source.
    """

    def __init__(
        self,
        source: Source,
        lane: Reads | None,
        steps: tuple[Step, ...],
        hops: tuple[Hop, ...],
    ) -> None:
        self.source = source
        self.steps = steps
        self.hops = hops
        self._lane = lane

    @abstractmethod
    def after(self, steps: tuple[Step, ...]) -> Self:
        """Return the same values after these steps, and no others."""

    def __aiter__(self) -> AsyncIterator[Any]:
        self._own.check(self)
        return self

    async def __anext__(self) -> Any:
        event = await self._own.next()
        if self.steps:
            event = await self._through(event)
        if event is None:
            raise StopAsyncIteration  # it is read outside of agents, and has an end
        return event.value

    @property
    def _own(self) -> Reads:
        if self._lane is None:
            raise errors.StreamError(
                f'The stream of {self.source} is only declared; give it to @app.agent(...)'
            )
        return self._lane

    def _following(self) -> Callable[[], Awaitable[Event | None]]:
        """Return what gives the next event; the body iterates over this stream."""
        lane = self._own
        lane.check(self)
        return self._next if self.steps else lane.next

    async def _next(self, *, keep: bool = False, until: float | None = None) -> Event | None:
        event = await self._own.next(keep=keep, until=until)
        if event is None or not self.steps:
            return event
        return await self._through(event, keep=keep, until=until)

    async def _through(
        self, event: Event | None, *, keep: bool = False, until: float | None = None
    ) -> Event | None:
        lane = self._own
        while event is not None:
            seen: Event | None = event
            for step in self.steps:
                seen = await step(event)
                if seen is None:
                    break
            if seen is not None:
                return seen
            lane.skip(event)
            if until is not None and until <= lane.clock.monotonic():
                return None
            event = await lane.next(keep=keep, until=until)
        return None

    # One at a time

    async def items(self) -> AsyncIterator[tuple[Any, Any]]:
        """Iterate over `(key, value)`."""
        following = self._following()
        while (event := await following()) is not None:
            yield event.key, event.value

    async def events(self) -> AsyncIterator[Event]:
        """Iterate over events: value, key, headers, timestamp."""
        following = self._following()
        while (event := await following()) is not None:
            yield event

    async def enumerate(self, start: int = 0) -> AsyncIterator[tuple[int, Any]]:
        """Iterate over `(number, value)`; the number counts what this body has seen."""
        following = self._following()
        number = start
        while (event := await following()) is not None:
            yield number, event.value
            number += 1

    def noack(self) -> Self:
        """Return a stream whose events are finished by `await stream.ack(event)` alone."""
        self._own.ack_by_hand()
        return self.after(self.steps)

    async def ack(self, event: Event) -> None:
        """Finish an event; what was sent and written until now counts."""
        await self._own.ack(event)

    # In batches

    async def take(self, max_: int, within: Span | None = None) -> AsyncIterator[list[Any]]:
        """Iterate over lists of up to `max_` values.

        The events of a list are finished when the next list is asked for, together.

        Args:
            within: Seconds (or a timedelta), from the first value on, after which a shorter list
                will do.
        """
        async for events in self.take_events(max_, within):
            yield [event.value for event in events]

    async def take_events(
        self, max_: int, within: Span | None = None
    ) -> AsyncIterator[list[Event]]:
        """Iterate over lists of up to `max_` events; see `take`."""
        if max_ < 1:
            raise ValueError(f'take needs at least 1, not {max_!r}')
        lane = self._own
        lane.check(self)
        while (event := await self._next()) is not None:
            batch = [event]
            until = None if within is None else lane.clock.monotonic() + seconds(within)
            while len(batch) < lane.batch_limit(max_):
                event = await self._next(keep=True, until=until)
                if event is None:
                    break
                batch.append(event)
            yield batch

    async def take_with_timestamp(
        self, max_: int, within: Span | None = None, timestamp_field_name: str = 'timestamp'
    ) -> AsyncIterator[list[Any]]:
        """Iterate as `take` does; each value that is a mapping gets its event's time.

        Args:
            timestamp_field_name: The key, in each mapping, of the time in epoch seconds.
        """
        async for events in self.take_events(max_, within):
            yield [_timed(event, timestamp_field_name) for event in events]

    async def noack_take(self, max_: int, within: Span | None = None) -> AsyncIterator[list[Event]]:
        """Iterate as `take_events` does; each event is finished by `await event.ack()` alone."""
        async for events in self.noack().take_events(max_, within):
            yield events


def _timed(event: Event, name: str) -> Any:
    value = event.value
    return {**value, name: event.timestamp} if isinstance(value, Mapping) else value
