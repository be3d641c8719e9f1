"""`send`: append one value to a topic."""

from __future__ import annotations

import asyncio
import difflib
import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import click

from service_scaffold import codecs, errors
from service_scaffold.streams.cli.flags import json_option
from service_scaffold.streams.cli.group import prepared, show
from service_scaffold.streams.cli.program import Program
from service_scaffold.streams.client import Client
from service_scaffold.streams.topic import RecordMetadata, Topic


class Timestamp(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """Epoch seconds, or a date and time with a zone."""

    name = 'time'

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        """Return epoch seconds."""
        try:
            return float(value)
        except ValueError:
            pass
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f'{value!r} is neither epoch seconds nor a date and time', param, ctx)
        if at.tzinfo is None:
            self.fail(f'{value!r} has no zone; write {value}Z for UTC', param, ctx)
        return at.timestamp()


class Header(click.ParamType):  # type: ignore[type-arg]  # as above
    """`NAME=VALUE`."""

    name = 'name=value'

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return name and value."""
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition('=')
        if not name or not equals:
            self.fail(f'{value!r} is not NAME=VALUE', param, ctx)
        return name, text


def send(program: Program) -> click.Command:
    """Return the command that sends a value."""

    @click.command()
    @click.argument('target', metavar='TOPIC_OR_AGENT')
    @click.argument('value')
    @click.option('--key', '-k', help='Its key.')
    @click.option('--partition', type=click.IntRange(min=0), help='Where to; default by the key.')
    @click.option('--timestamp', type=Timestamp(), help='Epoch seconds or ISO 8601; default now.')
    @click.option('--header', 'headers', type=Header(), multiple=True, help='May be repeated.')
    def send(target: str, value: str, headers: tuple[tuple[str, str], ...], **options: Any) -> None:
        """Send VALUE to a topic, or to an agent's topic (@NAME is always an agent).

        VALUE is JSON, or else a text; `null` is a tombstone. It is checked against the declared
        type, and encoded as the topic says.
        """
        sent = asyncio.run(_send(program, target, value, dict(headers), **options))
        where = sent.topic if sent.partition is None else f'{sent.topic}/{sent.partition}'
        show(sent._asdict(), [f'{where}: offset {sent.offset}'])

    send.params.append(json_option())
    return prepared(program, send)


async def _send(
    program: Program,
    target: str,
    value: str,
    headers: dict[str, str],
    key: str | None,
    partition: int | None,
    timestamp: float | None,
) -> RecordMetadata:
    if program.in_memory:
        raise errors.ConfigError(
            'memory:// is inside each process, so that no worker would see the value; set'
            ' --streams-url to kafka://…'
        )
    async with Client(program.topology, program.open_journal) as client:
        topic = _find(program, target)
        journal = await client.connect()
        count = (await journal.partitions([topic.name]))[topic.name]
        if count is None and topic.name not in program.topology.topics:
            raise errors.StreamError(_unknown(program, target))
        if partition is not None and count is not None and partition >= count:
            raise errors.StreamError(f'{topic.name} has {count} partitions, numbered from 0')
        sent = await topic.send(
            key=None
            if key is None
            else fitting(_key_readings(key), topic.key_type, topic.encode_key),
            value=fitting(_readings(value), topic.value_type, topic.encode_value),
            partition=partition,
            timestamp=timestamp,
            headers=headers,
        )
        assert sent is not None  # no event is being handled
        return sent


def _find(program: Program, target: str) -> Topic:
    topology = program.topology
    agent = topology.agents.get(target.removeprefix('@'))
    if target.startswith('@') and agent is None:
        raise errors.StreamError(_unknown(program, target))
    if agent is None or (target in topology.topics and not target.startswith('@')):
        return topology.topics.get(target) or Topic(target, topology)
    if not isinstance(agent.topic, Topic):
        raise errors.StreamError(
            f'Agent {agent.name} reads {agent.topic}, a channel inside of the worker'
        )
    return agent.topic


def _unknown(program: Program, target: str) -> str:
    topology = program.topology
    agents = [f'@{name}' for name in topology.agents]
    known = agents if target.startswith('@') else [*topology.topics, *topology.agents]
    near = difflib.get_close_matches(target, known, n=1)
    hint = f'did you mean {near[0]!r}?' if near else f'known are {", ".join(known) or "none"}'
    return f'There is no topic or agent {target!r}; {hint}'


def _readings(text: str) -> list[Any]:
    """Return what a text may mean: JSON first, then itself."""
    try:
        return [json.loads(text), text]
    except ValueError:
        return [text]


def _key_readings(text: str) -> list[Any]:
    return _readings(text)[::-1]


def fitting(readings: Iterable[Any], annotation: Any, encode: Callable[[Any], bytes | None]) -> Any:
    """Return the first reading that is of the declared type and can be encoded.

    Raises:
        CodecError: There is none; why the first one does not fit.
    """
    convert = codecs.Decoder(annotation).convert
    failure: errors.CodecError | None = None
    for reading in readings:
        try:
            value = None if reading is None else convert(reading)
            encode(value)
            return value
        except errors.CodecError as error:
            failure = failure or error
    assert failure is not None
    raise failure
