"""The functions of an application, each with its state, resources, socket and fate."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web

from service_scaffold import events, features, scheduler
from service_scaffold.apps.distributed import callback as callbacks
from service_scaffold.apps.distributed import message as messages
from service_scaffold.apps.distributed.intake import TopicIntake
from service_scaffold.apps.distributed.resources import Resources
from service_scaffold.apps.distributed.socket import TopicSocket
from service_scaffold.backoff import Backoff

LOGGER = logging.getLogger(__name__)

State = Literal['waiting', 'running', 'ended', 'failed']


@dataclass(frozen=True)
class Surroundings:
    """What the functions of one application share.

    Attributes:
        app: The service.
        owner: What a function gets as `app`.
        name: The service's name.
        builder: What a function gets as `message_builder`.
        content_type: What values are encoded as; None is JSON.
    """

    app: web.Application
    owner: object
    name: str
    builder: messages.MessageBuilder
    content_type: str | None


class Function(ABC):
    """One function of an application.

    Attributes:
        name: Its name, unique in the application.
        state: `waiting`, `running`, `ended` or `failed`.
        error: What it has failed with, or what it waits for.
    """

    KNOWN: tuple[str, ...] = callbacks.SENDER_NAMES

    def __init__(self, function: callbacks.Function, resources: Resources, name: str) -> None:
        self.name = name
        self.state: State = 'waiting'
        self.error: Exception | None = None
        self._resources = resources
        self._callback = callbacks.Callback(function, (*self.KNOWN, *resources.names))
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.name} {self.state}>'

    def begin(self, around: Surroundings) -> None:
        """Begin; what takes time is done in a task."""
        self.state = 'waiting'
        self.error = None
        socket = TopicSocket(around.app, around.content_type)
        self._fixed = {
            'socket': socket,
            'publisher': socket,
            'message_builder': around.builder,
            'app': around.owner,
        }
        spawn = scheduler.get_scheduler(around.app).spawn
        self._task = spawn(self._live(around, socket), name=f'{around.name} {self.name}')

    async def _live(self, around: Surroundings, socket: TopicSocket) -> None:
        LOGGER.info('Starting %s', self.name)
        try:
            await self._work(around, socket)
        except Exception as error:
            self.error = error
            self.state = 'failed'
            LOGGER.exception('%s failed', self.name)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                self.state = 'ended'
                raise
            self.error = RuntimeError(f'{self.name}: what it awaited was cancelled')
            self.state = 'failed'
            LOGGER.exception('%s failed: what it awaited was cancelled', self.name)
        else:
            self.state = 'ended'
        finally:
            LOGGER.info('Halting %s', self.name)

    @abstractmethod
    async def _work(self, around: Surroundings, socket: TopicSocket) -> None:
        """Live, with resources entered and left."""

    async def ended(self) -> None:
        """Wait for its end."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _cancel(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})

    @abstractmethod
    async def drain(self) -> None:
        """Begin no more work."""

    @abstractmethod
    async def leave(self) -> None:
        """End, and leave the resources: no message is being handled any more."""


class Producer(Function):
    """Calls its callback once."""

    def __init__(self, function: callbacks.Function, resources: Resources, name: str) -> None:
        super().__init__(function, resources, name)
        self._may_begin = asyncio.Event()

    def begin(self, around: Surroundings) -> None:
        self._may_begin = asyncio.Event()  # the last one may belong to another event loop
        super().begin(around)

    def let_begin(self) -> None:
        """Call the callback, now that it is heard."""
        self._may_begin.set()

    async def _work(self, around: Surroundings, socket: TopicSocket) -> None:
        await self._may_begin.wait()
        async with AsyncExitStack() as stack:
            given = await self._resources.enter(stack)
            self.state = 'running'
            await self._callback({**self._fixed, **given})

    async def drain(self) -> None:
        """Cancel the callback, and wait until it has ended."""
        await self._cancel()

    async def leave(self) -> None:
        """Do nothing: it has ended."""
        await self._cancel()


class Consumer(Function):
    """Calls its callback for each message of its topics.

    Args:
        topics: What it is subscribed to.
        group: Its group; None is `{name of the service}.{name}`.
        policy: That of its subscriptions.
    """

    KNOWN = callbacks.RECEIVER_NAMES

    def __init__(
        self,
        function: callbacks.Function,
        resources: Resources,
        name: str,
        topics: tuple[str, ...],
        group: str | None = None,
        policy: events.Policy | None = None,
    ) -> None:
        super().__init__(function, resources, name)
        self.topics = topics
        self.intake: TopicIntake | None = None
        self._group = group
        self._policy = policy
        self._given: Mapping[str, Any] | None = None
        self._backoff = Backoff(base_s=0.5, max_s=10.0)

    def begin(self, around: Surroundings) -> None:
        self._given = None
        self._entered = asyncio.Event()
        self._left = asyncio.Event()
        super().begin(around)

    @property
    def settled(self) -> bool:
        """Whether nothing will change by itself: it is subscribed, or has failed or ended."""
        if self.state == 'running' and self.intake is not None:
            return all(s.state != 'waiting' for s in self.intake.subscriptions)
        return self.state in ('failed', 'ended')

    @property
    def held_up(self) -> bool:
        """Whether it waits for a resource that has failed, and is tried again."""
        return self.state == 'waiting' and self.error is not None

    async def _work(self, around: Surroundings, socket: TopicSocket) -> None:
        attempt = 0
        while True:
            async with AsyncExitStack() as stack:
                try:
                    given = await self._resources.enter(stack)
                except Exception as error:
                    if not self._resources.renewable:
                        raise
                    self._failed_to_enter(error)
                else:
                    self._serve(around, socket, given)
                    try:
                        await self._left.wait()
                    finally:
                        self._close()
                    return
            attempt += 1
            await features.get_clock(around.app).sleep(self._backoff.delay(attempt))

    def _close(self) -> None:
        self._given = None
        if not self._left.is_set() and self.intake is not None:  # a resource has ended us
            self.intake.remove(self.intake.places)
            self.intake = None

    def _failed_to_enter(self, error: Exception) -> None:
        level = logging.ERROR if self.error is None else logging.DEBUG
        self.error = error
        LOGGER.log(level, '%s: a resource failed, will keep trying', self.name, exc_info=error)

    def _serve(self, around: Surroundings, socket: TopicSocket, given: Mapping[str, Any]) -> None:
        self._given = {**self._fixed, **given}
        self.error = None
        if self.intake is None:
            self.intake = TopicIntake(
                events.get_listener(around.app),
                self._receive,
                value_type=self._callback.value_type,
                group=f'{around.name}.{self.name}' if self._group is None else self._group,
                policy=self._policy,
                content_type=around.content_type,
            )
            self.intake.add(self.topics)
        socket.receive_with(self.intake)
        self.state = 'running'
        self._entered.set()

    async def _receive(self, message: messages.TopicMessage[Any]) -> object:
        if self._given is None and self.state == 'waiting':
            await self._entered.wait()  # started again: subscribed before there are resources
        if self._given is None:
            raise RuntimeError(f'{self.name} has lost a resource: {self.error}')
        return await self._callback({'message': message, **self._given})

    async def drain(self) -> None:
        """Do nothing, the listener does it; unless it has not come so far."""
        if self.state == 'waiting':
            await self._cancel()

    async def leave(self) -> None:
        """Leave the resources."""
        self._left.set()
        await self.ended()
