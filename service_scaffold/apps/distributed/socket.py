"""The socket of a function: what it publishes, asks and subscribes to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from service_scaffold import codecs, errors, events
from service_scaffold.apps.distributed import callback as callbacks
from service_scaffold.apps.distributed import message as messages
from service_scaffold.apps.distributed import topics as names
from service_scaffold.apps.distributed.intake import TopicIntake

_MISSING: Any = object()

ACTIVE_LIMIT_S = 10.0
"""How long `subscribe` waits."""


class TopicSocket:
    """Publishes to topics, asks, and subscribes, over the listener and publisher of one service.

    Args:
        app: The service.
        content_type: What values are encoded as, unless a call says otherwise; None is JSON.
    """

    def __init__(self, app: web.Application, content_type: str | None = None) -> None:
        self._app = app
        self._content_type = content_type
        self._own: TopicIntake | None = None
        self._others: list[TopicIntake] = []

    def receive_with(self, intake: TopicIntake) -> None:
        """Let `subscribe` without a callback add to this one."""
        self._own = intake

    # Sending

    async def publish(
        self,
        topic: str | messages.TopicMessage[Any],
        value: Any = _MISSING,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Publish a value; return when the broker has confirmed it.

        To the `reply_to` of a message that was received it is the answer to that request.

        Args:
            topic: `exchange` or `exchange/ro/uting`; or a message, as of a message builder.
            value: The payload; bytes go out as they are. A message brings its own.
            key: Ordering key; the default is the routing.
            headers: Headers with string values.
            content_type: What the value is encoded as.
            timeout_s: Seconds until the confirm, default `--publish-timeout-s`.

        Raises:
            PublishError: It is not confirmed.
            EncodeError: The content type cannot express the value.
            ValueError: It is no topic to publish to.
        """
        if isinstance(topic, messages.TopicMessage):
            message = topic
            topic, value = message.topic, message.payload
            key, content_type = key or message.key, message.content_type or codecs.JSON
            headers = {**message.headers, **(headers or {})}
        elif value is _MISSING:
            raise TypeError('publish(topic, value) needs a value, unless it is given a message')
        content_type = content_type or self._content_type
        if topic is None:
            raise ValueError('Not a topic: None; nobody waits for an answer to this message')
        if isinstance(topic, messages.ReplyAddress):
            listener = events.get_listener(self._app)
            await listener.reply(topic.request, value, content_type=content_type)
            return
        exchange, routing = names.split(topic)
        await events.get_publisher(self._app).publish(
            exchange,
            routing,
            value,
            key=key,
            headers=headers,
            content_type=content_type,
            timeout_s=timeout_s,
        )

    async def request(
        self,
        topic: str | messages.TopicMessage[Any],
        value: Any = _MISSING,
        timeout_s: float = 30.0,
        default: Any = _MISSING,
        *,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        value_type: Any = None,
    ) -> messages.TopicMessage[Any]:
        """Publish a request and return the message of whoever answers first.

        Args:
            topic: As in `publish`.
            value: As in `publish`.
            timeout_s: Seconds to wait for the answer.
            default: Returned instead of raising for a time-out, `NoResponder` or an answer that
                cannot be decoded.
            headers: As in `publish`.
            content_type: As in `publish`.
            value_type: What the answer is decoded into, as `T` in a callback's `TopicMessage[T]`;
                None takes whatever comes. Protocol Buffers need it.

        Raises:
            TimeoutError: No answer in time; also what a callback that returns None leads to.
            NoResponder: Nobody can answer, and the broker knows (RabbitMQ, memory, Mosquitto).
            RemoteError: The responder raised.
            ConnectionError: The request was not sent, or the connection died meanwhile.
            DecodeError: The answer cannot be decoded, or not into `value_type`.
            TypeError: Nothing can be decoded into `value_type`.
        """
        decoder = codecs.Decoder(value_type)
        if isinstance(topic, messages.TopicMessage):
            message = topic
            topic, value = message.topic, message.payload
            content_type = message.content_type or codecs.JSON
            headers = {**message.headers, **(headers or {})}
        elif value is _MISSING:
            raise TypeError('request(topic, value) needs a value, unless it is given a message')
        exchange, routing = names.split(topic)
        try:
            answer = await events.get_publisher(self._app).ask(
                exchange,
                routing,
                value,
                headers=headers,
                content_type=content_type or self._content_type,
                timeout_s=timeout_s,
            )
            decoded = decoder.decode(answer.body, answer.content_type)
        except (TimeoutError, errors.NoResponder, errors.DecodeError):
            if default is _MISSING:
                raise
            found: messages.TopicMessage[Any] = default
            return found
        return messages.received(answer, decoded, topic)

    # Receiving

    async def subscribe(
        self,
        topics: str | Iterable[str],
        callback: callbacks.Function | None = None,
        *,
        group: str | None = None,
        policy: events.Policy | None = None,
        timeout_s: float = ACTIVE_LIMIT_S,
    ) -> None:
        """Subscribe to further topics, and wait until that is so.

        Args:
            topics: One, or several; `*` is one word, `#` any number.
            callback: Called with what it declares of `message` and `socket`. The default is the
                function whose socket it is, which then receives these, too.
            group: Of a callback: instances and sockets with the same one share the messages; by
                default each sees them all.
            policy: Of a callback.
            timeout_s: Seconds to wait. When they are over it is subscribed all the same, and
                becomes active when the broker lets it.

        Raises:
            TimeoutError: It was not active in time.
            TypeError: There is no function that could receive them.
            ValueError: One is no topic.
        """
        if callback is None:
            if self._own is None:
                raise TypeError('this socket has no receiver: subscribe(topics, callback)')
            if group is not None or policy is not None:
                raise TypeError('group and policy belong to a callback of its own')
            intake = self._own
        else:
            intake = self._intake_of(callback, group, policy)
        subscriptions = intake.add(topics)
        if callback is not None:
            self._others.append(intake)
        async with asyncio.timeout(timeout_s):
            for subscription in subscriptions:
                await subscription.wait_active(timeout_s)

    async def unsubscribe(self, topics: str | Iterable[str] | None = None) -> None:
        """Unsubscribe from topics, those that were declared included; None is all of them.

        A group's queue stays, and goes on collecting (MQTT: the broker collects nothing meanwhile).

        Raises:
            ValueError: This socket is not subscribed to one of them; nothing was done.
        """
        intakes = [*self._others, *([self._own] if self._own else [])]
        if topics is None:
            places = {place for intake in intakes for place in intake.places}
        else:
            several = (topics,) if isinstance(topics, str) else tuple(topics)
            for topic in several:
                if not any(names.split_pattern(topic) in intake.places for intake in intakes):
                    raise ValueError(f'not subscribed to {topic!r}')
            places = {names.split_pattern(topic) for topic in several}
        for intake in intakes:
            intake.remove(places)
        self._others = [intake for intake in self._others if intake.places]

    def _intake_of(
        self, function: callbacks.Function, group: str | None, policy: events.Policy | None
    ) -> TopicIntake:
        callback = callbacks.Callback(function, ('message', 'socket', 'publisher'))

        async def receive(message: messages.TopicMessage[Any]) -> object:
            return await callback({'message': message, 'socket': self, 'publisher': self})

        return TopicIntake(
            events.get_listener(self._app),
            receive,
            value_type=callback.value_type,
            group=group,
            policy=policy,
            content_type=self._content_type,
        )
