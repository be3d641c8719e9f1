"""A socket by itself: connections of its own, without a service around it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from service_scaffold import events, features, options, service
from service_scaffold.apps.distributed import message as messages
from service_scaffold.apps.distributed.intake import Receive, TopicIntake
from service_scaffold.apps.distributed.socket import ACTIVE_LIMIT_S, TopicSocket

Queue = asyncio.Queue[messages.TopicMessage[Any]]


class BusSocket(TopicSocket):
    """A socket with connections of its own, from `async with` to the end of its block.

    The environment and the flags of the process have no part in it.

    Args:
        keywords: Options of a service, as keywords.
        topics: What is subscribed to at the start.
        group: Group of these, and of what is subscribed to later without a callback.
        queue: Receives what comes; None: `subscribe` needs a callback.
        content_type: What values are encoded as; None is JSON.

    Raises:
        ConfigError: A value is none that its option accepts.
    """

    def __init__(
        self,
        keywords: Mapping[str, Any],
        topics: Iterable[str] = (),
        group: str | None = None,
        queue: Queue | None = None,
        *,
        content_type: str | None = None,
    ) -> None:
        parser = service.create_parser(str(keywords.get('name') or 'application'))
        options.apply_keywords(parser, keywords)
        app = service.make_app(options.parse(parser, [], environ={}))
        super().__init__(app, content_type)
        self.queue = queue
        self._group = group
        self._topics = tuple(topics)
        self._putting = 0
        events.setup(app)

    @property
    def builder(self) -> messages.MessageBuilder:
        """Makes messages that name this service and instance."""
        config = options.get_config(self._app)
        return messages.MessageBuilder(config['name'], config['instance'], self._content_type)

    async def __aenter__(self) -> Self:
        """Connect, as soon as there is a broker, and subscribe.

        Raises:
            ConfigError: The URL's scheme or the content type is unknown, or a package not
                installed.
        """
        messages.check_content_type(self._content_type)
        lifecycle = features.get_lifecycle(self._app)
        await lifecycle.start()
        try:
            if self.queue is not None:
                self.receive(self._put)
                await self._wait_active()
        except BaseException:  # `async with` leaves nothing that was not entered
            await lifecycle.shutdown()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish what runs, and disconnect."""
        await self.drain()
        await features.get_lifecycle(self._app).shutdown()

    def receive(
        self, receive: Receive, value_type: Any = None, group: str | None = None
    ) -> TopicIntake:
        """Give what comes on the topics to `receive`, beginning now."""
        intake = TopicIntake(
            events.get_listener(self._app),
            receive,
            value_type=value_type,
            group=group or self._group,
            content_type=self._content_type,
        )
        self.receive_with(intake)
        if self._topics:
            intake.add(self._topics)
        return intake

    async def drain(self) -> None:
        """Take nothing more in, and let what runs finish; publishing goes on."""
        if self._putting:  # nobody will take it from the queue: it goes back, not processed
            await events.get_listener(self._app).shutdown(self._app)
        await features.get_lifecycle(self._app).drain()

    async def _put(self, message: messages.TopicMessage[Any]) -> None:
        assert self.queue is not None
        self._putting += 1
        try:
            await self.queue.put(message)
        finally:
            self._putting -= 1

    async def _wait_active(self) -> None:
        """Give the broker a moment, so that what is published next arrives; it may be away."""
        assert self._own is not None
        for subscription in self._own.subscriptions:
            try:
                await subscription.wait_active(ACTIVE_LIMIT_S)
            except TimeoutError:
                return
