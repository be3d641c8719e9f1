"""Reading a stream outside of agents: nothing is committed, nothing is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, NoReturn

from service_scaffold import errors
from service_scaffold.clock import Clock
from service_scaffold.streams.event import Event
from service_scaffold.streams.plan import Source

Take = Callable[[float | None], Awaitable[Event | None]]
"""Returns the next event; None when there are no more, or when the time that it is given, in
monotonic seconds of the clock, has come."""


class Loose:
    """Reads for whoever iterates over a stream that was not given to an agent.

    Args:
        take: Where events come from.
        clock: What limits are measured with; asked each time.
        named: Returns the topic of a name.
    """

    def __init__(
        self, take: Take, clock: Callable[[], Clock], named: Callable[[str], Source]
    ) -> None:
        self._take = take
        self._clock = clock
        self.named = named

    @property
    def clock(self) -> Clock:
        """What limits are measured with."""
        return self._clock()

    async def next(self, *, keep: bool = False, until: float | None = None) -> Event | None:
        """Return the next event; None at the end, or when `until` has come."""
        return await self._take(until)

    def check(self, stream: Any) -> None:
        """Any stream can be read."""

    def hop(self, stream: Any, name: str, make: Any) -> NoReturn:
        """Events cannot be moved: nobody would do that.

        Raises:
            StreamError: Always.
        """
        raise errors.StreamError(
            f'The stream of {stream.source} is read outside of agents, where there is no group_by,'
            f' through or join ({name}); give it to @app.agent(...)'
        )

    def skip(self, event: Event) -> None:
        """Nothing is to be finished."""

    def batch_limit(self, wanted: int) -> int:
        """Change nothing."""
        return wanted

    def ack_by_hand(self) -> None:
        """Nothing is to be finished."""

    async def ack(self, event: Event) -> None:
        """Nothing is to be finished."""


class Iterated:
    """Events from an iterable, synchronous or not, that may be waited for with a limit.

    Args:
        values: What to iterate over.
        event: Makes the event of a value.
        clock: What limits are measured with; asked each time.
    """

    def __init__(
        self,
        values: Iterable[Any] | AsyncIterable[Any],
        event: Callable[[Any], Event],
        clock: Callable[[], Clock],
    ) -> None:
        self._values = values
        self._event = event
        self._clock = clock
        self._iterator: AsyncIterator[Any] | None = None
        self._coming: asyncio.Task[Any] | None = None

    def __del__(self) -> None:
        coming = self._coming
        if coming is not None and not coming.done() and not coming.get_loop().is_closed():
            coming.cancel()

    async def take(self, until: float | None) -> Event | None:
        """Return the next event; None at the end, or when `until` has come."""
        if self._iterator is None:
            self._iterator = aiter(_asynchronous(self._values))
        if until is not None or self._coming is not None:
            if self._coming is None:
                self._coming = asyncio.ensure_future(_next(self._iterator))
            if not await self._has_come(self._coming, until):
                return None
        coming, self._coming = self._coming, None
        found = await (coming or _next(self._iterator))
        return self._event(found[0]) if found else None

    async def _has_come(self, coming: asyncio.Task[Any], until: float | None) -> bool:
        waited: set[asyncio.Future[Any]] = {coming}
        alarm = None
        if until is not None:
            clock = self._clock()
            alarm = asyncio.ensure_future(clock.sleep(until - clock.monotonic()))
            waited.add(alarm)
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if alarm is not None:
                alarm.cancel()
        return coming.done()


async def _next(iterator: AsyncIterator[Any]) -> tuple[Any, ...]:
    """Return the next value in a tuple, or an empty one at the end."""
    try:
        return (await anext(iterator),)
    except StopAsyncIteration:
        return ()


async def _asynchronous(values: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(values, AsyncIterable):
        async for value in values:
            yield value
    else:
        for value in values:
            yield value
