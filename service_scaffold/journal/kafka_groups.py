"""Kafka groups from outside: who is in one, and forgetting what it has committed."""

from __future__ import annotations

import asyncio
from typing import Any

from service_scaffold import errors
from service_scaffold.journal.kafka_client import ControlClient, admin, kafka_errors, sender
from service_scaffold.journal.kafka_protocol import Exactly

RETRY_S = 0.1


async def group_members(client: ControlClient, group: str) -> list[str]:
    """Return the members of a group, as `client-number at host`. The caller bounds the time.

    Raises:
        KafkaError: The broker refuses, and would again.
    """
    # Exactly: the client takes the answer to version 3 for one to version 2.
    request = Exactly(admin.DescribeGroupsRequest_v2([group]))
    response = await _ask_coordinator(client, group, request, lambda answer: answer.groups[0][0])
    members = response.groups[0][5]
    return sorted(f'{member} at {host.lstrip("/")}' for member, _, host, _, _ in members)


async def forget_group(client: ControlClient, group: str) -> None:
    """Delete a group with all that it has committed. The caller bounds the time.

    Raises:
        JournalError: It has members.
        KafkaError: The broker refuses, and would again.
    """
    request = admin.DeleteGroupsRequest([group])
    try:
        await _ask_coordinator(client, group, request, lambda answer: answer.results[0][1])
    except kafka_errors.GroupIdNotFound:
        return
    except kafka_errors.NonEmptyGroup as error:
        raise errors.JournalError(f'Group {group} has members; stop them first') from error


async def _ask_coordinator(client: ControlClient, group: str, request: Any, code_of: Any) -> Any:
    """Ask the node that keeps a group; again, while it has just moved or is just loading."""
    while True:
        try:
            node = await client.coordinator_lookup(sender.CoordinationType.GROUP, group)
            response = await client.send(node, request)
            error = kafka_errors.for_code(code_of(response))
            if error is kafka_errors.NoError:
                return response
            raise error()
        except kafka_errors.KafkaError as error:
            if not error.retriable:
                raise
        await client.force_metadata_update()  # that node may be new to us
        await asyncio.sleep(RETRY_S)
