"""Exchanges, queues and bindings, declared one after another on a channel of their own.

The broker answers a refused request by closing the channel it came on, so what is declared here
never shares one with a consumer or a publisher, and one bad binding harms nobody else.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from service_scaffold import errors
from service_scaffold.transports.amqp_client import Client
from service_scaffold.transports.amqp_wire import Channel, Refused
from service_scaffold.transports.base import Binding

QUORUM: dict[str, Any] = {'x-queue-type': 'quorum'}
_CHUNK = 200
_CREATE_S = 10.0
_LOOK_S = 0.05
_AWAY = 'home node'


def dead_letter_store(exchange: str) -> str:
    """Return the name of the exchange and of the queue that keep the dead letters of `exchange`."""
    return f'{exchange}.dlq'


class _Away(errors.BindingRefused):
    """A queue exists, and what has it has not started yet."""


class Topology:
    """What is known to exist on the broker, for the life of one connection.

    Args:
        create: Declare exchanges; False only checks that they are there.
    """

    def __init__(self, client: Client, *, create: bool) -> None:
        self._client = client
        self._create = create
        self._lock = asyncio.Lock()
        self._channel: Channel | None = None
        self._exchanges: dict[str, str] = {}
        self._stores: set[str] = set()

    def forget(self, exchange: str) -> None:
        """Declare `exchange` again when it is next needed: the broker says it is missing."""
        self._exchanges.pop(exchange, None)
        self._stores.discard(exchange)

    async def exchange(self, name: str, exchange_type: str) -> None:
        """See to it that an exchange is there: durable, never deleted by itself.

        Raises:
            BindingRefused: It is of another type, or is missing and we must not create it.
            AccessRefused: The credentials do not allow it.
        """
        if self._exchanges.get(name) == exchange_type:
            return
        async with self._declaring(f'exchange {name!r} as {exchange_type}') as channel:
            if self._exchanges.get(name) != exchange_type:
                await self._client.call(
                    channel.exchange_declare(
                        name,
                        exchange_type=exchange_type,
                        durable=True,
                        passive=not self._create,
                    )
                )
                self._exchanges[name] = exchange_type

    async def dead_letters(self, exchange: str) -> str:
        """See to it that the dead-letter store of `exchange` is there; return its name.

        A topic exchange, so that each letter keeps its routing key, and a queue that takes all.
        """
        store = dead_letter_store(exchange)
        if store in self._stores and store in self._exchanges:
            return store
        await self.exchange(store, 'topic')
        await self._durable_queue(store, QUORUM)
        async with self._declaring(f'binding of queue {store!r}') as channel:
            await self._client.call(channel.queue_bind(store, store, '#'))
        self._stores.add(store)
        return store

    async def group_queue(self, group: str, exchange: str, exchange_type: str) -> str:
        """See to it that a group's queue is there, after all it refers to; return its name."""
        await self.exchange(exchange, exchange_type)
        store = await self.dead_letters(exchange)
        queue = f'{group}@{exchange}'
        await self._durable_queue(queue, {**QUORUM, 'x-dead-letter-exchange': store})
        return queue

    async def own_queue(self, prefix: str) -> str:
        """Make a queue that ends with this connection; return its name.

        The name is new each time: the broker may still hold the queue of a connection that has
        ended on our side only.
        """
        queue = f'{prefix[:200]}.{secrets.token_hex(6)}'
        async with self._declaring(f'queue {queue!r}') as channel:
            await self._client.call(channel.queue_declare(queue, exclusive=True, auto_delete=True))
        return queue

    async def stream(self, name: str, arguments: dict[str, Any]) -> None:
        """See to it that a stream is there; one that exists is used whatever its arguments.

        Raises:
            BindingRefused: The broker refuses it, or it is older than 3.9 and has no streams.
            AccessRefused: The credentials do not allow it.
        """
        try:
            async with asyncio.timeout(_CREATE_S):
                wanted = {'x-queue-type': 'stream', **arguments}
                while not await self._stream(name, wanted):  # noqa: ASYNC110 - nobody tells us
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise errors.BindingRefused(f'Stream {name!r} is not ready') from None

    async def _stream(self, name: str, arguments: dict[str, Any]) -> bool:
        """Look for a stream, or make it; False while somebody else is making it.

        RabbitMQ ends the connection of whoever uses a stream that has a name, and no leader yet.
        So its maker holds a queue for as long, which no other connection can declare.
        """
        making = f'{name}.making'
        try:
            if await self._exists(name):
                return not await self._exists(making)
        except _Away:
            return False
        try:
            async with self._raw() as channel:
                await self._client.call(channel.queue_declare(making, exclusive=True))
        except Refused as refused:
            if refused.code == 405:
                return False
            raise _error(f'queue {making!r}', refused) from refused
        if not await self._exists(name):
            async with self._declaring(f'stream {name!r}') as channel:
                await self._client.call(
                    channel.queue_declare(name, durable=True, arguments=arguments)
                )
        async with self._declaring(f'queue {making!r}') as channel:
            await self._client.call(channel.queue_delete(making))
        return True

    async def bind(self, queue: str, bindings: Sequence[Binding]) -> dict[Binding, Exception]:
        """Bind a queue; return those that the broker refuses.

        Raises:
            IntakeLost: The queue has gone.
        """
        refused: dict[Binding, Exception] = {}
        failures: dict[tuple[str, str], Exception] = {}
        for name, exchange_type in {(b.exchange, b.exchange_type): None for b in bindings}:
            try:
                await self.exchange(name, exchange_type)
            except (errors.BindingRefused, errors.AccessRefused) as error:
                failures[name, exchange_type] = error
        wanted = []
        for binding in bindings:
            failure = failures.get((binding.exchange, binding.exchange_type))
            if failure is None:
                wanted.append(binding)
            else:
                refused[binding] = failure
        for chunk in _chunks(wanted):
            if not await self._bind_all(queue, chunk):
                for binding in chunk:
                    refusal = await self._bind_one(queue, binding)
                    if refusal is not None:
                        refused[binding] = refusal
        return refused

    async def unbind(self, queue: str, bindings: Sequence[Binding]) -> None:
        """Take bindings off a queue; those that are not there are no error."""
        for binding in bindings:
            async with self._declaring(f'unbinding of {binding}') as channel:
                await self._client.call(
                    channel.queue_unbind(queue, binding.exchange, binding.pattern)
                )

    async def _bind_all(self, queue: str, bindings: Sequence[Binding]) -> bool:
        """Bind all with one wait; False when one of them is refused, nobody knows which."""
        try:
            async with self._raw() as channel:
                for binding in bindings[:-1]:
                    await self._client.call(
                        channel.queue_bind(queue, binding.exchange, binding.pattern, nowait=True)
                    )
                last = bindings[-1]
                await self._client.call(channel.queue_bind(queue, last.exchange, last.pattern))
        except (Refused, ValueError):
            return False
        return True

    async def _bind_one(self, queue: str, binding: Binding) -> Exception | None:
        for last in (False, True):
            try:
                await self.exchange(binding.exchange, binding.exchange_type)
                async with self._raw() as channel:
                    await self._client.call(
                        channel.queue_bind(queue, binding.exchange, binding.pattern)
                    )
            except Refused as refused:
                if refused.code == 404 and 'no queue' in refused.text:
                    raise errors.IntakeLost(f'Queue {queue!r} has gone') from refused
                if refused.code != 404 or last:
                    return _error(f'binding of {binding}', refused)
                self.forget(binding.exchange)  # deleted since we declared it
            except (errors.BindingRefused, errors.AccessRefused) as error:
                return error
            except ValueError as error:
                return errors.BindingRefused(f'The binding of {binding} is not possible: {error}')
            else:
                return None
        return None

    async def _durable_queue(self, name: str, arguments: dict[str, Any]) -> None:
        if not self._create and await self._exists(name):
            return  # made by someone who may have had reasons for other arguments
        async with self._declaring(f'queue {name!r}') as channel:
            await self._client.call(channel.queue_declare(name, durable=True, arguments=arguments))

    async def _exists(self, queue: str) -> bool:
        try:
            async with self._raw() as channel:
                await self._client.call(channel.queue_declare(queue, passive=True))
        except Refused as refused:
            if refused.code == 404 and _AWAY in refused.text:
                raise _Away(f'The node of queue {queue!r} is not up: {refused.text}') from refused
            if refused.code not in (404, 405):
                raise _error(f'queue {queue!r}', refused) from refused
            return refused.code == 405  # somebody's own
        return True

    @asynccontextmanager
    async def _raw(self) -> AsyncIterator[Channel]:
        async with self._lock:
            if self._channel is None or self._channel.is_closed:
                self._channel = await self._client.channel()
            try:
                yield self._channel
            except BaseException:
                # Closed by the broker, or half-way through a request: not for the next one.
                self._client.discard(self._channel)
                self._channel = None
                raise

    @asynccontextmanager
    async def _declaring(self, what: str) -> AsyncIterator[Channel]:
        try:
            async with self._raw() as channel:
                yield channel
        except Refused as refused:
            raise _error(what, refused) from refused


def _error(what: str, refused: Refused) -> Exception:
    if refused.code == 403:
        return errors.AccessRefused(f'The credentials do not allow the {what}: {refused.text}')
    return errors.BindingRefused(f'The broker refuses the {what}: {refused.text}')


def _chunks(bindings: Sequence[Binding]) -> Iterator[Sequence[Binding]]:
    for start in range(0, len(bindings), _CHUNK):
        yield bindings[start : start + _CHUNK]
