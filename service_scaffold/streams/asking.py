"""What an agent can be asked: one value, many at once, with an answer or without."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Mapping,
)
from contextlib import aclosing
from typing import Any, Protocol, TypeVar, get_args, get_type_hints

from service_scaffold import errors
from service_scaffold.message import new_message_id
from service_scaffold.streams import serializers
from service_scaffold.streams.event import Sends
from service_scaffold.streams.rpc import HERE, Calls, Decode
from service_scaffold.transports import headers as names

AT_ONCE = 1_000
"""How many questions of one `map` or `join` wait for their answers at the same time."""

T = TypeVar('T')
Values = Iterable[T] | AsyncIterable[T]
Pair = tuple[Any, Any]


class Target(Sends, Protocol):
    """Where questions are sent: a topic, or a channel.

    Attributes:
        here: It does not leave the process.
    """

    here: bool

    def record(
        self,
        key: Any,
        value: Any,
        partition: int | None = None,
        timestamp: float | None = None,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> Any:
        """Return the record of a value."""

    async def append(self, record: Any) -> Any:
        """Append a record at once, whatever is being handled."""


class Askable:
    """Something with a name and a body, that values can be sent to.

    Attributes:
        name: What it is called in errors.
        body: The function; what it is annotated to yield is what answers are decoded into.
        calls: The questions of this process, None where nobody can be asked.
    """

    name: str
    body: Callable[[Any], Any]
    calls: Calls | None = None
    _answer: Decode | None = None

    @property
    def topic(self) -> Any:
        """Where values are sent."""
        raise NotImplementedError

    async def send(
        self,
        *,
        key: Any = None,
        value: Any = None,
        partition: int | None = None,
        timestamp: float | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        reply_to: Any = None,
        correlation_id: str | None = None,
    ) -> Any:
        """Send a value to the agent; see `Topic.send`.

        Args:
            reply_to: A topic, or its name, that answers are sent to.
            correlation_id: What they carry as `x-correlation-id`; default a new one.
        """
        if reply_to is not None:
            headers = _asking(headers, str(reply_to), correlation_id or new_message_id())
        return await self.topic.send(
            key=key, value=value, partition=partition, timestamp=timestamp, headers=headers
        )

    async def cast(self, value: Any = None, key: Any = None, **options: Any) -> None:
        """Send a value to the agent, and do not wait for an answer; options as for `send`."""
        await self.send(key=key, value=value, **options)

    async def ask(
        self,
        value: Any = None,
        key: Any = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Any:
        """Send a value to the agent, and return what it yields for that.

        The question leaves at once, also while an event is being handled: it is not part of that
        event, not even under exactly-once, and is sent again by another attempt. The answer is
        what the agent has committed.

        Args:
            timeout: Seconds to wait, default the application's `reply_expires`.
            options: `partition`, `timestamp` and `headers`, as for `Topic.send`.

        Raises:
            TimeoutError: It has not answered in time.
            RemoteError: It has failed on this value for the last time, or skipped it.
            PublishError: The question could not be sent.
            ConnectionLost: The application stops.
        """
        with self._calls.waiting():
            return await self._ask(value, key, timeout, **options)

    def ask_nowait(
        self,
        value: Any = None,
        key: Any = None,
        timeout: float | None = None,
        **options: Any,
    ) -> asyncio.Future[Any]:
        """Begin to ask, and return a future of the answer; see `ask`."""
        return self._calls.begin(self._ask(value, key, timeout, **options))

    async def map(
        self, values: Values[Any], key: Any = None, timeout: float | None = None
    ) -> AsyncIterator[Any]:
        """Ask for each of `values`, and iterate over the answers as they come.

        Args:
            values: An iterable, or an asynchronous one; it is read as answers come.
            key: Of all of them.
            timeout: Seconds for each answer.

        Raises:
            Exception: As `ask`; what has no answer yet is waited for no more.
        """
        async with aclosing(self._each(_with_key(values, key), timeout)) as answers:
            async for _, future in answers:
                yield future.result()

    async def kvmap(self, items: Values[Pair], timeout: float | None = None) -> AsyncIterator[Any]:
        """As `map`, of pairs `(key, value)`."""
        async with aclosing(self._each(_iterate(items), timeout)) as answers:
            async for _, future in answers:
                yield future.result()

    async def join(
        self, values: Values[Any], key: Any = None, timeout: float | None = None
    ) -> list[Any]:
        """Ask for each of `values`, all at once, and return the answers in the same order.

        Raises:
            Exception: As `ask`; what has no answer yet is waited for no more.
        """
        return await self._joined(_with_key(values, key), timeout)

    async def kvjoin(self, items: Values[Pair], timeout: float | None = None) -> list[Any]:
        """As `join`, of pairs `(key, value)`."""
        return await self._joined(_iterate(items), timeout)

    # How

    @property
    def _calls(self) -> Calls:
        if self.calls is None:
            raise errors.StreamError(f'{self.name} cannot be asked: it belongs to no application')
        return self.calls

    async def _ask(
        self,
        value: Any,
        key: Any,
        timeout: float | None,
        partition: int | None = None,
        timestamp: float | None = None,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> Any:
        calls = self._calls
        topic: Target = self.topic
        correlation_id = new_message_id()
        reply_to = HERE if topic.here else calls.reply_to
        facts = _asking(headers, reply_to, correlation_id)
        record = topic.record(key, value, partition, timestamp, facts)
        if self._answer is None:
            self._answer = _decoder(self.body)
        return await calls.ask(
            self.name,
            correlation_id.encode(),
            lambda: topic.append(record),
            self._answer,
            timeout,
            here=topic.here,
        )

    async def _joined(self, pairs: AsyncIterator[Pair], timeout: float | None) -> list[Any]:
        found: dict[int, Any] = {}
        async with aclosing(self._each(pairs, timeout)) as answers:
            async for number, future in answers:
                found[number] = future.result()
        return [found[number] for number in range(len(found))]

    async def _each(
        self, pairs: AsyncIterator[Pair], timeout: float | None
    ) -> AsyncGenerator[tuple[int, asyncio.Future[Any]], None]:
        """Ask for each pair; yield its number and its future as they are done."""
        done: asyncio.Queue[asyncio.Future[Any]] = asyncio.Queue()
        waiting: dict[asyncio.Future[Any], int] = {}
        places = asyncio.Semaphore(AT_ONCE)

        async def feed() -> None:
            number = 0
            async for key, value in pairs:
                await places.acquire()
                future = self.ask_nowait(value, key, timeout)
                waiting[future] = number
                future.add_done_callback(done.put_nowait)
                number += 1

        feeding = asyncio.ensure_future(feed())
        feeding.add_done_callback(done.put_nowait)
        fed = False
        try:
            while waiting or not fed:
                with self._calls.waiting():
                    future = await done.get()
                if future is feeding:
                    feeding.result()
                    fed = True
                else:
                    places.release()
                    yield waiting.pop(future), future
        finally:
            left = [feeding, *waiting]
            for future in left:
                future.cancel()
            await asyncio.wait(left)


def _asking(
    headers: Mapping[str, str | bytes] | None, reply_to: str, correlation_id: str
) -> dict[str, str | bytes]:
    return {
        **(headers or {}),
        names.REPLY_TO: reply_to,
        names.CORRELATION_ID: correlation_id,
    }


def _decoder(body: Callable[[Any], Any]) -> Decode:
    """Return what decodes the answers of a body, into what it is annotated to yield."""
    try:
        hint = get_type_hints(inspect.unwrap(body)).get('return')
    except Exception:  # noqa: BLE001 - annotations may name anything, and are here a courtesy
        hint = None
    arguments = get_args(hint)
    return serializers.value_codec(None, arguments[0] if arguments else None).decode


async def _with_key(values: Values[Any], key: Any) -> AsyncIterator[Pair]:
    async for value in _iterate(values):
        yield key, value


async def _iterate(values: Values[T]) -> AsyncIterator[T]:
    if isinstance(values, AsyncIterable):
        async for value in values:
            yield value
    else:
        for value in values:
            yield value
