"""Requests that the client lacks: they are what keeps exactly-once exact over a rebalance.

Committing offsets in a transaction with the member's generation lets the broker refuse a member
that was left behind (KIP-447), and asking for stable offsets keeps its successor from beginning
before that member's open transaction has ended. Creating topics with the broker's own defaults
needs a version more than the client knows (KIP-464).
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from service_scaffold.journal.base import Commit
from service_scaffold.journal.kafka_client import (
    TopicPartition,
    admin,
    api,
    kafka_errors,
    types,
)

UNSTABLE_OFFSET_COMMIT = 88
PRODUCER_FENCED = 90
RETRY_S = 0.1

_TAGS = ('tags', types.TaggedFields)
_NAME = types.CompactString('utf-8')


class CreateTopicsResponseV4(api.Response):  # type: ignore[misc] # aiokafka has no types
    """As version 3."""

    API_KEY = 19
    API_VERSION = 4
    SCHEMA = admin.CreateTopicsResponse_v2.SCHEMA


class CreateTopicsRequestV4(api.RequestStruct):  # type: ignore[misc] # as above
    """As version 3, and -1 means the broker's default."""

    API_KEY = 19
    API_VERSION = 4
    RESPONSE_TYPE = CreateTopicsResponseV4
    SCHEMA = admin.CreateTopicsRequest_v3.SCHEMA


class OffsetFetchResponseV7(api.Response):  # type: ignore[misc] # as above
    """A group's committed offsets."""

    API_KEY = 9
    API_VERSION = 7
    SCHEMA = types.Schema(
        ('throttle_time_ms', types.Int32),
        (
            'topics',
            types.CompactArray(
                ('topic', _NAME),
                (
                    'partitions',
                    types.CompactArray(
                        ('partition', types.Int32),
                        ('offset', types.Int64),
                        ('leader_epoch', types.Int32),
                        ('metadata', _NAME),
                        ('error_code', types.Int16),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        ('error_code', types.Int16),
        _TAGS,
    )


class OffsetFetchRequestV7(api.RequestStruct):  # type: ignore[misc] # as above
    """Asks for committed offsets; with `require_stable`, none that a transaction may change."""

    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = OffsetFetchResponseV7
    SCHEMA = types.Schema(
        ('group', _NAME),
        (
            'topics',
            types.CompactArray(
                ('topic', _NAME), ('partitions', types.CompactArray(types.Int32)), _TAGS
            ),
        ),
        ('require_stable', types.Boolean),
        _TAGS,
    )


class TxnOffsetCommitResponseV3(api.Response):  # type: ignore[misc] # as above
    """One error code a partition."""

    API_KEY = 28
    API_VERSION = 3
    SCHEMA = types.Schema(
        ('throttle_time_ms', types.Int32),
        (
            'topics',
            types.CompactArray(
                ('topic', _NAME),
                (
                    'partitions',
                    types.CompactArray(
                        ('partition', types.Int32), ('error_code', types.Int16), _TAGS
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )

    @property
    def errors(self) -> list[tuple[str, list[tuple[int, int]]]]:
        """The error codes in the older versions' form, which the client reads."""
        return [
            (topic, [(partition, _known(code)) for partition, code, _ in partitions])
            for topic, partitions, _ in self.topics
        ]


class TxnOffsetCommitRequestV3(api.RequestStruct):  # type: ignore[misc] # as above
    """Commits offsets in a transaction, in the name of a member and its generation."""

    API_KEY = 28
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = TxnOffsetCommitResponseV3
    SCHEMA = types.Schema(
        ('transactional_id', _NAME),
        ('group', _NAME),
        ('producer_id', types.Int64),
        ('producer_epoch', types.Int16),
        ('generation', types.Int32),
        ('member_id', _NAME),
        ('instance_id', _NAME),
        (
            'topics',
            types.CompactArray(
                ('topic', _NAME),
                (
                    'partitions',
                    types.CompactArray(
                        ('partition', types.Int32),
                        ('offset', types.Int64),
                        ('leader_epoch', types.Int32),
                        ('metadata', _NAME),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class Exactly:
    """Sends one request in exactly one version, as the client's connection expects it."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Any:
        """Return the request.

        Raises:
            IncompatibleBrokerVersion: The broker does not know this version.
        """
        request = self._request
        _, newest = versions.get(request.API_KEY, (0, -1))
        if newest < request.API_VERSION:
            raise kafka_errors.IncompatibleBrokerVersion(
                f'{type(request).__name__} needs a newer Kafka'
            )
        return request


class _UnstableOffsets(kafka_errors.KafkaError):  # type: ignore[misc] # as above
    """The client does not know this answer."""

    retriable = True

    def __str__(self) -> str:
        return 'an open transaction may change them, and has not ended'


async def stable_offsets(
    consumer: Any, group: str, partitions: Iterable[TopicPartition], timeout_s: float
) -> dict[TopicPartition, Commit]:
    """Return the group's committed offsets, once no open transaction can change them any more.

    Partitions without one are left out. The caller bounds the time of each request.

    Args:
        timeout_s: What the broker says is raised if it has not changed within this time.
    """
    deadline = time.monotonic() + timeout_s
    by_topic: dict[str, list[int]] = defaultdict(list)
    for topic, partition in partitions:
        by_topic[topic].append(partition)
    topics: list[Any] = [(topic, numbers, {}) for topic, numbers in by_topic.items()]
    request = Exactly(OffsetFetchRequestV7(group, topics, True, {}))
    coordinator = consumer._coordinator
    while True:
        await coordinator.ensure_coordinator_known()
        try:
            response = await coordinator._send_req(request)
            return _offsets_in(response)
        except kafka_errors.KafkaError as error:
            if not error.retriable or time.monotonic() + RETRY_S >= deadline:
                raise
            if isinstance(error, kafka_errors.NotCoordinatorForGroupError):
                coordinator.coordinator_dead()
        await asyncio.sleep(RETRY_S)


def _offsets_in(response: Any) -> dict[TopicPartition, Commit]:
    _raise_for(response.error_code)
    found = {}
    for topic, partitions, _ in response.topics:
        for partition, offset, _, note, code, _ in partitions:
            _raise_for(code)
            if offset >= 0:
                found[TopicPartition(topic, partition)] = Commit(offset, note or '')
    return found


def _raise_for(code: int) -> None:
    if code == UNSTABLE_OFFSET_COMMIT:
        raise _UnstableOffsets
    error = kafka_errors.for_code(code)
    if error is not kafka_errors.NoError:
        raise error()


def _known(code: int) -> int:
    """Return a code that the client knows for one that it does not."""
    return kafka_errors.InvalidProducerEpoch.errno if code == PRODUCER_FENCED else code
