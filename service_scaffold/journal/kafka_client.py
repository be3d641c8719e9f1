"""The one file that imports aiokafka: how its clients are made, and what their errors mean.

Its siblings take the client's names from here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import CloseReason, create_conn
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.producer import sender
from aiokafka.producer.message_accumulator import MessageBatch
from aiokafka.protocol import admin, api, metadata, types
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.structs import OffsetAndMetadata

from service_scaffold import errors
from service_scaffold.journal.kafka_bootstrap import close_on_cancel
from service_scaffold.journal.tuning import Tuning

__all__ = [
    'AIOKafkaClient',
    'AIOKafkaConsumer',
    'AIOKafkaProducer',
    'Access',
    'ConnectionGroup',
    'ConsumerRebalanceListener',
    'DefaultRecordBatch',
    'InvalidRecordError',
    'MessageBatch',
    'OffsetAndMetadata',
    'TopicPartition',
    'admin',
    'api',
    'bounded',
    'explain_refusal',
    'kafka_errors',
    'make_client',
    'make_consumer',
    'make_producer',
    'metadata',
    'quieten',
    'sender',
    'translate',
    'types',
]


class InvalidRecordError(kafka_errors.BrokerResponseError):  # type: ignore[misc] # no types
    """What the client calls an unknown error: a record that the topic's options do not allow."""

    errno = 87
    message = 'INVALID_RECORD'
    description = 'The topic does not take this record: a compacted one wants a key.'


kafka_errors.kafka_errors.setdefault(InvalidRecordError.errno, InvalidRecordError)

METADATA_MAX_AGE_MS = 5_000
TRANSACTION_TIMEOUT_MS = 10_000

_AUTHORIZATION = (
    kafka_errors.AuthenticationFailedError,
    kafka_errors.AuthenticationMethodNotSupported,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
    kafka_errors.SaslAuthenticationFailed,
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.TransactionalIdAuthorizationFailed,
)
_GENERATION = (
    kafka_errors.CommitFailedError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
    kafka_errors.RebalanceInProgressError,
)
_NO_TOPIC = (kafka_errors.UnknownTopicOrPartitionError, kafka_errors.InvalidTopicError)
_TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
_GONE = (
    kafka_errors.KafkaConnectionError,
    kafka_errors.KafkaTimeoutError,
    kafka_errors.NodeNotReadyError,
    kafka_errors.RequestTimedOutError,
    kafka_errors.ProducerClosed,
    kafka_errors.ConsumerStoppedError,
    OSError,
)


@dataclass(frozen=True)
class Access:
    """Where a Kafka cluster is, and who we are there.

    Attributes:
        hosts: `(host, port)` pairs to ask for the cluster's nodes.
        client_id: What the broker calls us in its logs and metrics.
        user: SASL user; None means no SASL.
        password: SASL password.
        mechanism: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
        tls: How to verify the broker; None means no TLS.
        timeout_s: Bound of a connection attempt and of a single request.
        tuning: How consumers and producers behave.
    """

    hosts: Sequence[tuple[str, int]]
    client_id: str = 'service'
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    mechanism: str = 'PLAIN'
    tls: ssl.SSLContext | None = None
    timeout_s: float = 10.0
    tuning: Tuning = field(default_factory=Tuning)

    def __str__(self) -> str:
        return ','.join(f'{host}:{port}' for host, port in self.hosts)

    def security(self) -> dict[str, Any]:
        """Return the keyword arguments for TLS and SASL that every client takes."""
        transport = 'SSL' if self.tls else 'PLAINTEXT'
        if self.user is None:
            return {'security_protocol': transport, 'ssl_context': self.tls}
        return {
            'security_protocol': f'SASL_{transport}',
            'ssl_context': self.tls,
            'sasl_mechanism': self.mechanism,
            'sasl_plain_username': self.user,
            'sasl_plain_password': self.password or '',
        }

    def common(self) -> dict[str, Any]:
        """Return the keyword arguments that every client takes."""
        return {
            'bootstrap_servers': [
                f'[{host}]:{port}' if ':' in host else f'{host}:{port}' for host, port in self.hosts
            ],
            'client_id': self.client_id,
            'metadata_max_age_ms': METADATA_MAX_AGE_MS,
            **self.security(),
        }


class ControlClient(AIOKafkaClient):  # type: ignore[misc] # aiokafka has no types
    """A bare client that says when one of its connections breaks.

    Attributes:
        broken: Set when that has happened.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.broken = asyncio.Event()

    def _on_connection_closed(self, conn: object, reason: CloseReason | None) -> None:
        super()._on_connection_closed(conn, reason)
        if reason in (CloseReason.CONNECTION_BROKEN, CloseReason.CONNECTION_TIMEOUT):
            self.broken.set()


def make_client(access: Access) -> ControlClient:
    """Return a bare client, not yet connected."""
    client = ControlClient(request_timeout_ms=_ms(access.timeout_s), **access.common())
    close_on_cancel(client)
    return client


def make_consumer(
    access: Access,
    *,
    isolation: str = 'read_committed',
    group: str | None = None,
    max_pause_s: float = 300.0,
) -> Any:
    """Return a consumer, not yet started, that commits and resets nothing by itself."""
    consumer = AIOKafkaConsumer(
        group_id=group,
        isolation_level=isolation,
        enable_auto_commit=False,
        auto_offset_reset='none',
        max_poll_interval_ms=_ms(max_pause_s),
        partition_assignment_strategy=(RangePartitionAssignor,),
        **access.tuning.for_consumers(),
        **access.common(),
    )
    close_on_cancel(consumer._client)
    return consumer


def make_producer(access: Access, transactional_id: str | None, timeout_s: float) -> Any:
    """Return a producer, not yet started.

    Without a transactional id it is not idempotent: an idempotent one never gives up, so a record
    whose publish has failed could be delivered long after.
    """
    producer = AIOKafkaProducer(
        transactional_id=transactional_id,
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        request_timeout_ms=_ms(timeout_s),
        **access.tuning.for_producers(transactional=transactional_id is not None),
        **access.common(),
    )
    close_on_cancel(producer.client)
    return producer


def _ms(seconds: float) -> int:
    return min(int(seconds * 1000), 2**31 - 1)


def quieten() -> None:
    """Silence the client, unless somebody has configured its logger.

    It logs each failed attempt of each of its tasks as an error, ten times a second in an outage;
    what has failed is raised to us, and said once by whoever keeps the connection.
    """
    logger = logging.getLogger('aiokafka')
    if logger.level == logging.NOTSET and not logger.isEnabledFor(logging.DEBUG):
        logger.setLevel(logging.CRITICAL)


def translate(error: BaseException, action: str) -> errors.ScaffoldError:
    """Return our error for one of the client's; `action` is what had been tried."""
    text = f'{action}: {str(error) or type(error).__name__}'
    if isinstance(error, kafka_errors.ProducerFenced | kafka_errors.InvalidProducerEpoch):
        return errors.Fenced(f'{action}: a newer producer has taken over the transactional id')
    if isinstance(error, _AUTHORIZATION):
        return errors.AccessRefused(text)
    if isinstance(error, _GENERATION):
        return errors.GenerationEnded(f'{action}: the group has rebalanced')
    if isinstance(error, _NO_TOPIC):
        return errors.BindingRefused(f'{action}: the topic or partition does not exist')
    if isinstance(error, _TOO_LARGE):
        return errors.TooLarge(f'{action}: larger than the broker accepts')
    if isinstance(error, InvalidRecordError):
        return errors.InvalidRecord(f'{action}: the topic does not allow it; is it without a key?')
    if isinstance(error, _GONE):
        return errors.ConnectionLost(text)
    return errors.JournalError(text)


@contextlib.asynccontextmanager
async def bounded(action: str, timeout_s: float) -> AsyncIterator[None]:
    """Limit what is done inside, and translate the client's errors.

    Raises:
        ConnectionLost: It took longer than `timeout_s`, or the broker is away.
    """
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise errors.ConnectionLost(
            f'{action}: Kafka did not answer within {timeout_s:g} s'
        ) from error
    except kafka_errors.KafkaError as error:
        raise translate(error, action) from error


async def explain_refusal(access: Access) -> errors.TransportError:
    """Return why no connection could be made, which the client's `bootstrap` only logs."""
    reason: BaseException = kafka_errors.KafkaConnectionError('no host answers')
    for host, port in access.hosts:
        try:
            connection = await create_conn(
                host,
                port,
                client_id=access.client_id,
                request_timeout_ms=_ms(access.timeout_s),
                **access.security(),
            )
        except _AUTHORIZATION:
            return errors.AccessRefused(
                f'Kafka at {host}:{port} refuses the user or its password ({access.mechanism})'
            )
        except (OSError, TimeoutError, kafka_errors.KafkaError) as error:
            reason = error
        else:
            connection.close()
            reason = kafka_errors.KafkaConnectionError('it answers, but gives no metadata')
    text = str(reason) or type(reason).__name__
    return errors.BrokerUnreachable(f'Kafka cannot be reached at {access}: {text}')
