"""Answers to requests: what goes back to whoever asked."""

from __future__ import annotations

import asyncio
import enum
import logging
from dataclasses import dataclass
from typing import Final

from service_scaffold import codecs, errors
from service_scaffold.clock import Clock
from service_scaffold.events.outlet import Outlet
from service_scaffold.events.requests import facts_of
from service_scaffold.message import Message

LOGGER = logging.getLogger(__name__)


class Silence(enum.Enum):
    """The type of `NO_REPLY`."""

    NO_REPLY = 'NO_REPLY'


NO_REPLY: Final = Silence.NO_REPLY
"""Returned by a handler that answers requests: this one is not answered, or was already."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Returned by a handler that answers requests, to answer in another content type than JSON.

    Args:
        value: The answer.
        content_type: What it is encoded as.
    """

    value: object
    content_type: str | None = None


class Answers:
    """Sends answers over a listener's connection of the moment."""

    def __init__(self, outlet: Outlet, clock: Clock) -> None:
        self._outlet = outlet
        self._clock = clock

    async def answer(self, request: Message, value: object, who: object) -> None:
        """Answer with what a handler has returned; a failure is logged, for `who`."""
        if value is NO_REPLY:
            return
        reply = value if isinstance(value, Reply) else Reply(value)
        try:
            body, content_type = codecs.encode(reply.value, reply.content_type)
        except Exception as error:
            LOGGER.exception('%s: the answer to a request cannot be encoded', who)
            await self.answer_error(request, error, who)
            return
        await self._try(request, body, content_type, {}, who)

    async def answer_error(self, request: Message, error: Exception, who: object) -> None:
        """Answer with an error: its type and its message."""
        await self._try(request, b'null', codecs.JSON, facts_of(error), who)

    async def send(
        self, request: Message, body: bytes, content_type: str, facts: dict[str, str]
    ) -> None:
        """Send an answer.

        Raises:
            PublishError: It was not sent, or not confirmed in time.
        """
        answer = Message(
            request.exchange,
            request.routing,
            body,
            headers=facts,
            content_type=content_type,
            correlation_id=request.correlation_id,
            timestamp=self._clock.time(),
        )
        transport = self._outlet.transport
        try:
            async with asyncio.timeout(transport.settings.publish_timeout_s):
                await transport.reply(request, answer)
        except Exception as error:
            raise errors.PublishError(
                f'The answer to request {request.message_id} was not sent:'
                f' {str(error) or type(error).__name__}',
                phase='confirm',
            ) from error

    async def _try(
        self, request: Message, body: bytes, content_type: str, facts: dict[str, str], who: object
    ) -> None:
        try:
            await self.send(request, body, content_type, facts)
        except errors.PublishError as error:  # the request is done, whoever hears of it
            LOGGER.warning('%s: %s', who, error)
