"""An application by itself: one function, with a socket and a life of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from service_scaffold import stopping
from service_scaffold.apps.distributed import callback as callbacks
from service_scaffold.apps.distributed import message as messages
from service_scaffold.apps.distributed import resources as belongings
from service_scaffold.apps.distributed.bus import BusSocket
from service_scaffold.apps.distributed.configs import BusConfig, socket_provider
from service_scaffold.transports import patterns

LOGGER = logging.getLogger(__name__)

QUEUE_SIZE = 32
_WORDS = ('state', 'resources')


class AbstractApplication:
    """One function on a bus. Subclasses say in `run_async` what happens between start and end.

    Args:
        async_callback: The function; what it declares is what it is given.
        config: The URL of the bus, or its configuration, which also has the topics.
        state: Given to the function; a class or a function is called for it at the start.
        resources: By name, context managers or what makes them: entered at the start, left at
            the end.

    Attributes:
        async_callback: As given.
        config: As given.
        state: As given.
        resources: As given.
        socket: Publishes, asks and subscribes; there while it runs.
        stopping: Set when it was told to stop.

    Raises:
        TypeError: An unknown keyword, a name that the function declares and nobody gives, or a
            resource that is none.
    """

    KNOWN: tuple[str, ...] = callbacks.RECEIVER_NAMES

    def __init__(
        self,
        async_callback: callbacks.Function,
        config: str | BusConfig,
        *,
        state: Any = None,
        resources: Mapping[str, Any] = belongings.NONE,
        **unknown: Any,
    ) -> None:
        callbacks.refuse(unknown, _WORDS)
        self.async_callback = async_callback
        self.config = config
        self._provider = socket_provider(config)
        self.state = state
        self.resources = resources
        self.name = callbacks.name_of(async_callback)
        self._belongings = belongings.Resources(state, resources, callbacks.RECEIVER_NAMES)
        self._callback = callbacks.Callback(async_callback, (*self.KNOWN, *self._belongings.names))
        self._given: dict[str, Any] = {}
        self._queue_in = _queue()
        self._socket: BusSocket | None = None
        self._life: asyncio.Task[None] | None = None
        self.stopping = asyncio.Event()

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.name}>'

    @property
    def socket(self) -> BusSocket:
        """Publishes, asks and subscribes.

        Raises:
            RuntimeError: It does not run.
        """
        if self._socket is None:
            raise RuntimeError(f'{self!r} does not run')
        return self._socket

    # What a subclass may say

    def setup(self) -> None:
        """Prepare what is not asynchronous; called first."""
        LOGGER.info('Starting %s', self.name)

    async def run_async(self) -> None:
        """Be the application; when it returns, the application ends. `stop` cancels it.

        Raises:
            NotImplementedError: Always: a subclass says what happens.
        """
        raise NotImplementedError(f'{type(self).__name__} has no run_async')

    def teardown(self) -> None:
        """Clean up what is not asynchronous; called last."""
        LOGGER.info('Halting %s', self.name)

    async def call(self, message: messages.TopicMessage[Any] | None = None) -> Any:
        """Call the function with what it declares."""
        return await self._callback({**self._given, 'message': message})

    # Life

    def start(self) -> None:
        """Run, and block until it has ended, or SIGTERM or SIGINT has ended it.

        Raises:
            Exception: What it has failed with.
        """
        asyncio.run(self._run())

    async def start_async(self) -> asyncio.Task[None]:
        """Start in the running loop; return its life when resources are entered and it runs.

        Await what is returned for the end, and for what it has failed with; `stop` ends it.

        Raises:
            Exception: Why it could not start.
            RuntimeError: It runs already.
        """
        if self._life is not None and not self._life.done():
            raise RuntimeError(f'{self!r} runs already; stop it first')
        started = asyncio.Event()
        # Those of the last life may belong to another event loop.
        self.stopping, self._queue_in = asyncio.Event(), _queue()
        self._life = life = asyncio.ensure_future(self._live(started))
        waiting = asyncio.ensure_future(started.wait())
        try:
            await asyncio.wait({life, waiting}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            life.cancel()
            await asyncio.wait({life})
            raise
        finally:
            waiting.cancel()
        if not started.is_set():
            life.result()
        return life

    async def stop(self) -> None:
        """End it in order, and wait for that; idempotent.

        Its function may stop it, too: there it does not wait, as it would for itself.
        """
        self.stopping.set()
        if self._life is not None and callbacks.INSIDE.get() is not self:
            await asyncio.wait({self._life})

    async def _run(self) -> None:
        request = stopping.StopRequest()
        with request.on_signals():
            life = await self.start_async()
            told = asyncio.ensure_future(request.wait())
            try:
                await asyncio.wait({life, told}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                told.cancel()
            await self.stop()
            life.result()

    async def _live(self, started: asyncio.Event) -> None:
        self.setup()
        try:
            async with self._bus_socket() as socket:
                self._socket = socket
                async with AsyncExitStack() as stack:
                    given = await self._belongings.enter(stack)
                    self._given = {**self._fixed(socket), **given}
                    self._begin()
                    started.set()
                    await self._until_stopped()
                    await socket.drain()
        finally:
            self._socket = None
            self.teardown()

    def _bus_socket(self) -> BusSocket:
        return self._provider.create_socket(self._queue_in)

    def _fixed(self, socket: BusSocket) -> dict[str, Any]:
        return {
            'socket': socket,
            'publisher': socket,
            'message_builder': socket.builder,
            'app': self,
        }

    def _begin(self) -> None:
        """Do what comes before `run_async`."""
        return

    async def _until_stopped(self) -> None:
        work = asyncio.ensure_future(self.run_async())
        told = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
            was_done = work.done()
            if not was_done:
                work.cancel()
                await asyncio.wait({work})
        if not work.cancelled():
            work.result()
        elif was_done:  # not by us
            raise RuntimeError(f'{self.name}: what it awaited was cancelled')


def _queue() -> asyncio.Queue[messages.TopicMessage[Any]]:
    return asyncio.Queue(QUEUE_SIZE)


class ConsumerApplication(AbstractApplication):
    """Calls its function for each message of the topics in its configuration, until it is stopped.

    Instances share the messages: their group is that of the configuration, else
    `{name in the configuration}.{function}`. A failing call is tried again, then a dead letter.

    Raises:
        ValueError: The configuration names no topics.
    """

    def __init__(
        self,
        async_callback: callbacks.Function,
        config: str | BusConfig,
        *,
        state: Any = None,
        resources: Mapping[str, Any] = belongings.NONE,
        **unknown: Any,
    ) -> None:
        super().__init__(async_callback, config, state=state, resources=resources, **unknown)
        self._group = self._provider.group or f'{self._provider.name}.{self.name}'
        patterns.check_group(self._group)
        if not self._provider.topics:
            raise ValueError(
                f'{self.name} has no topics: a consumer takes them from its configuration, as in'
                " MqttConfig(host='…', topics='plant/#')"
            )

    async def run_async(self) -> None:
        """Wait, while the function is called for each message, until it is stopped."""
        await self.stopping.wait()

    def _bus_socket(self) -> BusSocket:
        return self._provider.create_socket()

    def _begin(self) -> None:
        self.socket.receive(self.call, self._callback.value_type, self._group)


class ProducerApplication(AbstractApplication):
    """Calls its function once; when that has ended, so has the application.

    It receives nothing: topics in its configuration are for others.
    """

    KNOWN = callbacks.SENDER_NAMES

    async def run_async(self) -> None:
        """Call the function."""
        await self.call()

    def _bus_socket(self) -> BusSocket:
        return self._provider.create_socket()
