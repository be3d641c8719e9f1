"""A topic as agents see it: types, codecs, and sending."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from service_scaffold import errors
from service_scaffold.journal.base import Headers, NewRecord, TopicSpec
from service_scaffold.journal.naming import check_topic_name
from service_scaffold.streams import serializers
from service_scaffold.streams.effects import LANE, sent_at_ms
from service_scaffold.streams.event import OWN_KEY, Acks, Event
from service_scaffold.streams.pairs import PairSerializer
from service_scaffold.streams.signals import Signal
from service_scaffold.streams.steps import Kind
from service_scaffold.streams.stream import Stream

Given = Mapping[str, str | bytes] | Headers
"""Headers as a user gives them, or as they stood in another record."""

Guarantee = Literal['at_most_once', 'at_least_once', 'exactly_once']
GUARANTEES: tuple[Guarantee, ...] = ('at_most_once', 'at_least_once', 'exactly_once')
"""From the weakest to the strongest."""


class RecordMetadata(NamedTuple):
    """Where a record stands in the log; `partition` None: chosen by the broker's client."""

    topic: str
    partition: int | None
    offset: int


class Outlet(Protocol):
    """What sends records that belong to no event."""

    on_produce_message: Signal
    topics: dict[str, Topic]

    async def append(self, record: NewRecord) -> RecordMetadata: ...

    def topic(self, topic: str) -> Topic:
        """Return the topic of a name."""

    def prefixed(self, name: str) -> str:
        """Return a name of the application's own."""


class Named(Protocol):
    """Something with the name of a topic."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class TopicOptions:
    """How a topic is made, where a worker makes it.

    Attributes:
        partitions: How many; None means the application's `topic_partitions`.
        replicas: Copies; None means the application's `topic_replication_factor`.
        retention_s: Seconds that records are kept; None means the broker's default.
        compacting: Keep the last record of each key.
        deleting: Delete what is older than the retention, also when compacting.
        config: More of the broker's topic options; they win.

    Raises:
        ValueError: A number is too small.
    """

    partitions: int | None = None
    replicas: int | None = None
    retention_s: float | None = None
    compacting: bool | None = None
    deleting: bool | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (('partitions', self.partitions), ('replicas', self.replicas)):
            if value is not None and value < 1:
                raise ValueError(f'{name} must be 1 or more, not {value!r}')
        if self.retention_s is not None and self.retention_s <= 0:
            raise ValueError(f'retention must be more than 0 seconds, not {self.retention_s!r}')

    def spec(self, name: str, partitions: int | None, replicas: int | None) -> TopicSpec:
        """Return what the journal needs to make the topic."""
        config: dict[str, str] = {}
        policies = ['compact'] if self.compacting else []
        if self.deleting or (self.compacting is False):
            policies.append('delete')
        if policies:
            config['cleanup.policy'] = ','.join(policies)
        if self.retention_s is not None:
            config['retention.ms'] = str(int(self.retention_s * 1000))
        config.update({key: str(value) for key, value in self.config.items()})
        return TopicSpec(name, self.partitions or partitions, self.replicas or replicas, config)


class Topic:
    """One topic; made by `app.topic`.

    Attributes:
        name: Its name on the broker.
        options: How it is made.
        internal: Ours alone: a worker makes it when it is missing.
        guarantee: Its own delivery guarantee, None for the application's.
        like: The topic that it has as many partitions as, if nobody has said a number.
        acks: False: what is read from it counts as finished at once.
        maxsize: How many of its records may wait for an agent; None for the application's limit.
        here: Whether its records stay in this process.
    """

    here = False
    members: Sequence[Topic] | None = None
    """What it stands for, where it is no topic itself; see `Several`."""

    def __init__(
        self,
        name: str,
        outlet: Outlet,
        *,
        key_type: Any = None,
        value_type: Any = None,
        key_serializer: Any = None,
        value_serializer: Any = None,
        options: TopicOptions | None = None,
        internal: bool = False,
        guarantee: Guarantee | None = None,
        acks: bool = True,
        maxsize: int | None = None,
        like: Named | None = None,
    ) -> None:
        check_topic_name(name)
        self.name = name
        self.like = like
        self.options = options or TopicOptions()
        self.internal = internal
        self.guarantee = guarantee
        self.acks = acks
        self.maxsize = maxsize
        self.key_type = key_type
        self.value_type = value_type
        self._outlet = outlet
        self._serializers = key_serializer, value_serializer
        self._key = serializers.key_codec(key_serializer, key_type)
        self._value = serializers.value_codec(value_serializer, value_type)
        self.encode_key: Callable[[Any], bytes | None] = self._key.encode
        self.encode_value: Callable[[Any], bytes | None] = self._value.encode

    def __repr__(self) -> str:
        return f'<Topic {self.name}>'

    def __str__(self) -> str:
        return self.name

    def get_topic_name(self) -> str:
        """Return the name on the broker."""
        return self.name

    @property
    def prefixed(self) -> str:
        """The name that topics derived from this one begin with."""
        return self._outlet.prefixed(self.name)

    @property
    def kind(self) -> Kind:
        """What values it has."""
        return Kind(self._serializers[1], self.value_type)

    @property
    def model(self) -> Topic | None:
        """What those derived from it have as many partitions as."""
        return self

    def derive(self, name: str, *, key_type: Any, partitions: int | None, kind: Kind) -> Topic:
        """Return an internal topic for values from here by another key."""
        check_topic_name(
            name,
            f'made by group_by, of events from {self.name}; give that one a shorter name, or'
            ' group_by a topic= of its own',
        )
        return Topic(
            name,
            self._outlet,
            key_type=key_type,
            value_type=kind.annotation,
            value_serializer=kind.serializer,
            options=TopicOptions(partitions=partitions),
            internal=True,
            like=self.model,
        )

    def named(self, name: str) -> Topic:
        """Return another topic of the application."""
        return self._outlet.topic(name)

    def between(self, name: str, kind: Kind) -> Topic:
        """Return the topic of a name, for values from here; one that is not declared is like this.

        It is no internal one: whoever has named it may read it elsewhere, too.
        """
        return between(self._outlet, name, self.key_type, kind, like=self.model)

    def paired(self, name: str, left: Kind, right: Kind) -> Topic:
        """Return an internal topic for pairs of values from here and from another one."""
        made = f'{self._outlet.prefixed(name)}-pairs'
        check_topic_name(made, f'for pairs of a join of {self.name}; give the join a shorter name=')
        return Topic(
            made,
            self._outlet,
            key_type=self.key_type,
            key_serializer=self._serializers[0],
            value_serializer=PairSerializer(left.coder, right.coder),
            internal=True,
            like=self.model,
        )

    def stream(self) -> Stream:
        """Return the stream of its values, to be joined or given to an agent."""
        return Stream(self)

    def decode(self, record: Any, lane: Acks | None = None) -> Event:
        """Return the event of a record.

        Raises:
            DecodeError: The bytes are not of the declared type; the message says what is wrong.
        """
        value = record.value
        key = record.key
        return Event(
            None if key is None else self._key.decode(key),
            None if value is None else self._value.decode(value),
            record,
            lane,
        )

    async def send(
        self,
        *,
        key: Any = None,
        value: Any = None,
        partition: int | None = None,
        timestamp: float | None = None,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> RecordMetadata | None:
        """Send a value.

        While an event is being handled it is part of that: it goes out when the event is finished
        (under exactly-once with the checkpoint), not at all when the attempt fails, and None is
        returned. Elsewhere it is awaited until the broker has confirmed.

        Args:
            timestamp: Epoch seconds; default that of the event being handled, else now.

        Raises:
            EncodeError: Key or value do not fit the topic.
            PublishError: The broker has not confirmed it in time.
        """
        return await self._send(self.record(key, value, partition, timestamp, headers))

    async def resend(self, event: Event, key: Any, value: Any) -> None:
        """Send what was made of an event, with all of its headers."""
        await self._send(self.record(key, value, headers=event.message.headers))

    async def _send(self, record: NewRecord) -> RecordMetadata | None:
        if self._outlet.on_produce_message:
            record = await self._announced(record)
        lane = LANE.get()
        if lane is not None and lane.effective:
            lane.effects.sends.append(record)
            return None
        return await self._outlet.append(record)

    async def append(self, record: NewRecord) -> RecordMetadata:
        """Append a record at once: it is no part of what is being handled.

        Raises:
            PublishError: The broker has not confirmed it in time.
        """
        return await self._outlet.append(record)

    async def forward(self, event: Event, key: Any = OWN_KEY) -> None:
        """Send an event's own bytes, headers and timestamp; see `Event.forward`."""
        message = event.message
        value = message.value
        kept = message.key if key is OWN_KEY else self.encode_key(key)
        record = NewRecord(
            self.name,
            self.encode_value(value) if _is_object(value) else value,
            self.encode_key(kept) if _is_object(kept) else kept,
            tuple(message.headers),
            timestamp=message.timestamp,
        )
        await self._send(record)

    async def _announced(self, record: NewRecord) -> NewRecord:
        """Tell who wants to know what is sent; they may change the headers."""
        headers: dict[str, str | bytes] = dict(record.headers)
        await self._outlet.on_produce_message.send(
            self._outlet,
            topic=record.topic,
            key=record.key,
            value=record.value,
            partition=record.partition,
            timestamp=None if record.timestamp is None else record.timestamp / 1000,
            headers=headers,
        )
        return record._replace(headers=encode_headers(headers))

    def record(
        self,
        key: Any,
        value: Any,
        partition: int | None = None,
        timestamp: float | None = None,
        headers: Given | None = None,
    ) -> NewRecord:
        """Return the record of a value; for its timestamp see `sent_at_ms`.

        Raises:
            EncodeError: Key, value or headers do not fit, or a compacted topic gets no key.
        """
        if key is None and self.options.compacting:
            raise errors.EncodeError(f'Topic {self.name} is compacted: each record needs a key')
        return NewRecord(
            self.name,
            None if value is None else self.encode_value(value),
            None if key is None else self.encode_key(key),
            encode_headers(headers) if headers else (),
            partition,
            sent_at_ms(timestamp),
        )


def encode_headers(headers: Given) -> Headers:
    """Return headers as they stand in a record.

    Raises:
        EncodeError: One is neither text nor bytes.
    """
    if not isinstance(headers, Mapping):
        return tuple(headers)  # as they stood in another record: a name may be there twice
    return tuple((name, _header(name, value)) for name, value in headers.items())


def _header(name: str, value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise errors.EncodeError(f'Header {name}: text or bytes are needed, not {value!r}')


def between(
    outlet: Outlet, name: str, key_type: Any, kind: Kind, like: Named | None = None
) -> Topic:
    """Return the topic of a name; one that is not declared takes values of a kind."""
    known = outlet.topics.get(name)
    if known is None:
        known = outlet.topics[name] = Topic(
            name,
            outlet,
            key_type=key_type,
            value_type=kind.annotation,
            value_serializer=kind.serializer,
            like=like,
        )
    return known


def _is_object(data: object) -> bool:
    """Tell whether this has come over a channel, and is no bytes yet."""
    return data is not None and not isinstance(data, bytes)


def check_guarantee(topic: str, wanted: str | None, most: Guarantee) -> Guarantee | None:
    """Return a topic's own guarantee.

    Raises:
        ConfigError: It is unknown, or more than the application gives.
    """
    if wanted is None:
        return None
    if wanted not in GUARANTEES:
        raise errors.ConfigError(
            f'Topic {topic}: delivery_guarantee={wanted!r} is none of {", ".join(GUARANTEES)}'
        )
    if GUARANTEES.index(wanted) > GUARANTEES.index(most):
        raise errors.ConfigError(
            f'Topic {topic} asks for {wanted}, but the application gives {most};'
            f' set processing_guarantee={wanted!r} for the application'
        )
    return wanted
