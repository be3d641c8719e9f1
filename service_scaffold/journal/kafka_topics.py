"""Kafka topics: creating them, and asking for them without creating them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any

from service_scaffold import errors
from service_scaffold.journal.base import TopicSpec
from service_scaffold.journal.kafka_client import (
    AIOKafkaClient,
    ControlClient,
    admin,
    kafka_errors,
    metadata,
    translate,
)
from service_scaffold.journal.kafka_protocol import CreateTopicsRequestV4, Exactly

TOPIC = 2
"""What the protocol calls a topic, where options are asked for."""
LARGEST = 'max.message.bytes'
LIMIT_MS = 10_000
RETRY_S = 0.2
LOOK_EVERY_S = 0.05

Leaders = dict[int, int]
"""Partition to the node that leads it; negative while there is none."""


async def create_topics(client: ControlClient, specs: Iterable[TopicSpec]) -> None:
    """Create topics, and return when every partition has a leader. The caller bounds the time.

    Raises:
        BindingRefused: The broker refuses a topic, for example an option of it.
        AccessRefused: We may not create it.
    """
    wanted: list[Any] = [
        (
            spec.name,
            -1 if spec.partitions is None else spec.partitions,
            -1 if spec.replication is None else spec.replication,
            [],
            list(spec.config.items()),
        )
        for spec in specs
    ]
    request = Exactly(CreateTopicsRequestV4(wanted, LIMIT_MS, False))
    await _ask_controller(client, request, _is_elsewhere)
    names = [topic[0] for topic in wanted]
    while not await _are_led(client, names):  # noqa: ASYNC110 - the broker does not tell
        await asyncio.sleep(LOOK_EVERY_S)


async def delete_topics(client: ControlClient, topics: list[str]) -> None:
    """Delete topics; those that are missing are passed over. The caller bounds the time.

    Raises:
        AccessRefused: We may not delete one.
        BindingRefused: The broker does not delete topics.
    """
    request = admin.DeleteTopicsRequest(topics, LIMIT_MS)
    await _ask_controller(client, request, _is_deleted_elsewhere)


async def _ask_controller(
    client: ControlClient, request: Any, is_elsewhere: Callable[[Any], bool]
) -> None:
    """Ask whoever is the cluster's controller; ask again when that is another node by now."""
    while True:
        controller = client.cluster.controller
        if controller is not None and not is_elsewhere(
            await client.send(controller.nodeId, request)
        ):
            return
        await client.force_metadata_update()
        await asyncio.sleep(RETRY_S)


async def _are_led(client: ControlClient, topics: list[str]) -> bool:
    described = await describe_topics(client, topics)
    return all(bool(leaders) and min(leaders.values()) >= 0 for leaders in described.values())


async def describe_topics(client: ControlClient, topics: list[str]) -> dict[str, Leaders]:
    """Return the partitions of each topic, none for a missing topic. The caller bounds the time."""
    # An ordinary question for a topic makes the broker create it.
    request = metadata.MetadataRequest(topics, allow_auto_topic_creation=False)
    response = (await _ask_any(client, request)).to_object()
    described: dict[str, Leaders] = {name: {} for name in topics}
    for topic in response['topics']:
        error = kafka_errors.for_code(topic['error_code'])
        if error in (
            kafka_errors.TopicAuthorizationFailedError,
            kafka_errors.InvalidTopicError,
        ):
            raise error(topic['topic'])
        described[topic['topic']] = {
            partition['partition']: partition['leader'] for partition in topic['partitions']
        }
    return described


async def list_topics(client: ControlClient) -> list[str]:
    """Return the names of all topics, sorted. The caller bounds the time."""
    request = metadata.MetadataRequest(None, allow_auto_topic_creation=False)
    response = (await _ask_any(client, request)).to_object()
    return sorted(topic['topic'] for topic in response['topics'])


async def largest_of(client: AIOKafkaClient, topic: str) -> int | None:
    """Return how many bytes a batch of a topic may have, None if the broker does not tell us.

    The caller bounds the time.
    """
    request = admin.DescribeConfigsRequest([(TOPIC, topic, [LARGEST])])
    for code, _, _, _, entries in (await _ask_any(client, request)).resources:
        if kafka_errors.for_code(code) is kafka_errors.NoError:
            return next((int(entry[1]) for entry in entries if entry[0] == LARGEST), None)
    return None


async def _ask_any(client: AIOKafkaClient, request: Any) -> Any:
    """Ask one node after the other until one answers."""
    nodes = [broker.nodeId for broker in client.cluster.brokers()]
    failure: Exception = kafka_errors.NodeNotReadyError('no node is known')
    for node in random.sample(nodes, len(nodes)):
        try:
            return await client.send(node, request)
        except kafka_errors.KafkaError as error:
            failure = error
    raise failure


def _is_deleted_elsewhere(response: Any) -> bool:
    for topic, code in response.topic_error_codes:
        error = kafka_errors.for_code(code)
        if error is kafka_errors.NotControllerError:
            return True
        if error in (kafka_errors.NoError, kafka_errors.UnknownTopicOrPartitionError):
            continue
        if error is kafka_errors.TopicAuthorizationFailedError:
            raise errors.AccessRefused(f'deleting topic {topic}: not allowed')
        if error is kafka_errors.RequestTimedOutError:
            raise translate(error(), f'deleting topic {topic}')
        raise errors.BindingRefused(f'deleting topic {topic}: {error.__name__}')
    return False


def _is_elsewhere(response: Any) -> bool:
    """Tell whether to ask another controller; raise what makes no sense to try again."""
    for topic, code, message in response.topic_errors:
        error = kafka_errors.for_code(code)
        if error is kafka_errors.NotControllerError:
            return True
        if error in (kafka_errors.NoError, kafka_errors.TopicAlreadyExistsError):
            continue
        if error is kafka_errors.TopicAuthorizationFailedError:
            raise errors.AccessRefused(f'creating topic {topic}: not allowed')
        if error is kafka_errors.RequestTimedOutError:
            raise translate(error(), f'creating topic {topic}')
        raise errors.BindingRefused(f'creating topic {topic}: {message or error.__name__}')
    return False
