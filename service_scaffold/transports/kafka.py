"""Kafka as a transport: an exchange is a topic, routing is matched in the client."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any

from service_scaffold import errors
from service_scaffold.journal.base import NewRecord, TopicPartition, TopicSpec
from service_scaffold.journal.kafka import KafkaJournal
from service_scaffold.journal.kafka_client import Access
from service_scaffold.journal.kafka_producer import KafkaProducer
from service_scaffold.journal.kafka_reader import KafkaReader
from service_scaffold.journal.tuning import Tuning
from service_scaffold.message import Message
from service_scaffold.transports.base import (
    Capabilities,
    Delivery,
    Intake,
    IntakeSpec,
    Progress,
    ReplyCallback,
    Settings,
    Transport,
)
from service_scaffold.transports.kafka_group import GroupIntake
from service_scaffold.transports.kafka_live import LiveIntake
from service_scaffold.transports.kafka_presence import PRESENCE_CONFIG, KafkaBoard
from service_scaffold.transports.kafka_records import to_deliveries, to_message, to_record
from service_scaffold.transports.kafka_state import STATE_CONFIG, KafkaState, RecordTopic
from service_scaffold.transports.leased_presence import LeasedPresence

LOGGER = logging.getLogger(__name__)

MECHANISMS = ('PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512')
CONFIRM_SHARE = 0.8
"""The client's limit as a share of ours, so that it gives up first and says why."""
REPLY_RETENTION_MS = 3_600_000
REPLY_FETCH = 500
CLOSE_LIMIT_S = 1.9


def open_journal(settings: Settings, tuning: Tuning | None = None) -> KafkaJournal:
    """Return the journal that a transport with these settings stands on, not yet connected.

    Raises:
        ConfigError: `?sasl=` names an unknown mechanism.
        BrokerUnreachable: A certificate cannot be read (yet).
    """
    address = settings.address
    mechanism = address.query.get('sasl', 'PLAIN').upper()
    if mechanism not in MECHANISMS:
        raise errors.ConfigError(
            f'The event bus URL asks for ?sasl={mechanism}; known are: {", ".join(MECHANISMS)}'
        )
    return KafkaJournal(
        Access(
            hosts=address.hosts,
            client_id=f'{settings.name}.{settings.role}',
            user=address.user,
            password=address.password,
            mechanism=mechanism,
            tls=settings.ssl_context or (_tls(settings) if address.tls else None),
            timeout_s=settings.connect_timeout_s,
            tuning=tuning or Tuning(),
        )
    )


def _tls(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.cert is not None:
            # With no pass phrase the library would ask for one at the terminal, and wait.
            context.load_cert_chain(settings.cert, settings.key, password='')
    except OSError as error:
        raise errors.BrokerUnreachable(
            f'The certificates for {settings.address} cannot be loaded: {error}'
        ) from error
    return context


class KafkaTransport(Transport):
    """One connection to a Kafka cluster."""

    capabilities = Capabilities(group_order=True, history=True)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._journal = open_journal(settings)
        self._declared: set[str] = set()
        self._declaring = asyncio.Lock()
        self._producer: KafkaProducer | None = None
        self._making: asyncio.Task[KafkaProducer] | None = None
        self._intakes: set[GroupIntake | LiveIntake] = set()
        self._replies: asyncio.Task[None] | None = None
        self.state = KafkaState(self._topic('state', STATE_CONFIG))
        keep = {'retention.ms': str(1000 * settings.retention_s)}
        board = KafkaBoard(self._topic('presence', PRESENCE_CONFIG | keep, partitions=1))
        self._presence = self.presence = LeasedPresence(
            board, settings.lease_s, settings.clock, self.lose
        )

    def _topic(
        self, name: str, config: Mapping[str, str], partitions: int | None = None
    ) -> RecordTopic:
        settings = self.settings
        spec = TopicSpec(f'{settings.namespace}.{name}', partitions, config=config)
        limit_s = settings.connect_timeout_s
        return RecordTopic(
            self._journal,
            spec,
            self._declare_as,
            self._declared.discard,
            self._open_producer,
            limit_s,
        )

    async def connect(self) -> None:
        await self._journal.connect()
        self._journal.lost.add_done_callback(lambda lost: self._end(lost.result()))
        await self._presence.connected()

    def _end(self, reason: Exception) -> None:
        for intake in self._intakes:
            intake.void()
        self.lose(reason)

    async def close(self) -> None:
        deadline = time.monotonic() + CLOSE_LIMIT_S
        await self._presence.close(good=not self.lost.done())
        if self._replies is not None:
            self._replies.cancel()
        closing: list[asyncio.Future[Any]]
        closing = [asyncio.ensure_future(intake.close()) for intake in self._intakes]
        self._intakes.clear()
        closing.append(asyncio.ensure_future(self._journal.close()))
        if self._making is not None:
            closing.append(self._making)
        if self._replies is not None:
            closing.append(self._replies)
        done, late = await asyncio.wait(closing, timeout=deadline - time.monotonic())
        for task in late:
            task.cancel()
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                LOGGER.debug('Closing a part of a Kafka connection failed: %s', error)

    # Topics

    async def _declare(self, topic: str) -> Exception | None:
        """Make sure, once a connection, that a topic exists; return why it cannot be used."""
        if topic in self._declared:
            return None
        return await self._declare_as(TopicSpec(topic))

    async def _declare_as(self, spec: TopicSpec) -> Exception | None:
        async with self._declaring:
            if spec.name in self._declared:
                return None
            try:
                if self.settings.declare == 'create':
                    await self._journal.create([spec])
                elif (await self._journal.partitions([spec.name]))[spec.name] is None:
                    return errors.BindingRefused(
                        f'Topic {spec.name} is missing, and --eventbus-declare passive creates none'
                    )
            except (errors.BindingRefused, errors.AccessRefused) as error:
                return error
            except errors.JournalError as error:
                return errors.BindingRefused(str(error))
            self._declared.add(spec.name)
        return None

    # Consuming

    async def intake(self, spec: IntakeSpec) -> Intake:
        kind = LiveIntake if spec.group is None else GroupIntake
        intake = kind(self._journal, spec, self._declare)
        await intake.open()
        self._intakes = {other for other in self._intakes if not other.closed} | {intake}
        return intake

    def envelope(self, delivery: Delivery) -> Message:
        return to_message(delivery)

    # Publishing

    async def publish(
        self, messages: Sequence[Message], progress: Progress, *, mandatory: bool = False
    ) -> Mapping[int, Exception]:
        producer = await self._open_producer()
        refused = await self._publish(producer, dict(enumerate(messages)), progress)
        again = [p for p, error in refused.items() if self._was_deleted(messages[p], error)]
        if again:
            del_again = {position: messages[position] for position in again}
            refused = {p: e for p, e in refused.items() if p not in del_again}
            refused |= await self._publish(producer, del_again, progress)
        return refused

    def _was_deleted(self, message: Message, error: Exception) -> bool:
        """Tell whether a topic that we had declared has gone; it is declared again then."""
        gone = isinstance(error, errors.BindingRefused) and message.exchange in self._declared
        if gone:
            self._declared.discard(message.exchange)
        return gone

    async def _publish(
        self, producer: KafkaProducer, messages: Mapping[int, Message], progress: Progress
    ) -> dict[int, Exception]:
        refused: dict[int, Exception] = {}
        for topic in {message.exchange for message in messages.values()} - self._declared:
            error = await self._declare(topic)
            if error is not None:
                refused |= {p: error for p, m in messages.items() if m.exchange == topic}
        records: dict[int, NewRecord] = {}
        for position, message in messages.items():
            if position not in refused:
                try:
                    records[position] = to_record(message, message.exchange)
                except UnicodeEncodeError as error:
                    refused[position] = errors.PublishError(f'Kafka cannot carry it: {error}')
        if not records:
            return refused
        positions = list(records)

        def confirmed(indices: Sequence[int]) -> None:
            progress.advance(len(indices), [positions[index] for index in indices])

        progress.phase = 'send'
        outcome = await producer.produce(
            list(records.values()), confirmed, lambda: setattr(progress, 'phase', 'confirm')
        )
        for position, result in zip(positions, outcome, strict=True):
            if isinstance(result, Exception):
                refused[position] = result
        return refused

    async def _open_producer(self) -> KafkaProducer:
        """Return the producer, made at the first use.

        In a task that all callers share: one whose time is over must not end the attempt of the
        others, and the client forgets to close a connection when it is cancelled in the making.
        """
        if self._producer is not None:
            return self._producer
        if self._making is None:
            limit_s = CONFIRM_SHARE * self.settings.publish_timeout_s
            making = self._journal.producer(timeout_s=limit_s)
            self._making = asyncio.create_task(making, name='kafka producer')
            self._making.add_done_callback(self._made)
        return await asyncio.shield(self._making)

    def _made(self, making: asyncio.Task[KafkaProducer]) -> None:
        self._making = None  # after a failure the next caller begins another attempt
        if not making.cancelled() and making.exception() is None:
            self._producer = making.result()

    async def _append(self, message: Message, topic: str, spec: TopicSpec | None) -> None:
        """Append one message to a topic of ours, and wait for the confirm."""
        producer = await self._open_producer()
        if spec is not None and topic not in self._declared:
            refused = await self._declare_as(spec)
            if refused is not None:
                raise errors.PublishError(str(refused)) from refused
        try:
            (result,) = await producer.produce([to_record(message, topic)])
        except errors.JournalError as error:
            raise errors.PublishError(str(error), phase='confirm') from error
        if isinstance(result, Exception):
            self._declared.discard(topic)
            raise errors.PublishError(str(result), phase='confirm') from result

    async def dead_letter(self, message: Message) -> None:
        topic = f'{message.exchange}.dlq'
        await self._append(message, topic, TopicSpec(topic))

    # Requests

    async def open_replies(self, on_reply: ReplyCallback) -> str:
        topic = f'{self.settings.name}.replies'
        spec = TopicSpec(topic, partitions=1, config={'retention.ms': str(REPLY_RETENTION_MS)})
        refused = await self._declare_as(spec)
        if refused is not None:
            raise refused
        count = (await self._journal.partitions([topic]))[topic] or 0
        everything = [TopicPartition(topic, number) for number in range(count)]
        reader = await self._journal.reader()
        await reader.assign(await self._journal.offsets(everything, 'end'))
        self._replies = asyncio.create_task(self._read_replies(reader, on_reply), name='replies')
        return topic

    async def _read_replies(self, reader: KafkaReader, on_reply: ReplyCallback) -> None:
        try:
            while True:
                records = await reader.fetch(REPLY_FETCH, 1.0)
                for delivery in to_deliveries(records):
                    on_reply(to_message(delivery))
        except errors.ScaffoldError as error:
            self.lose(errors.ConnectionLost(f'Replies cannot be read: {error}'))

    async def reply(self, request: Message, answer: Message) -> None:
        topic = request.reply_to
        assert topic is not None, 'only requests are answered'
        if topic not in self._declared:
            # The client would have the broker create a topic that is merely mentioned.
            if (await self._journal.partitions([topic]))[topic] is None:
                raise errors.PublishError(f'The reply topic {topic} does not exist')
            self._declared.add(topic)
        answer = answer.replace(correlation_id=request.correlation_id, key=request.correlation_id)
        await self._append(answer, topic, None)
