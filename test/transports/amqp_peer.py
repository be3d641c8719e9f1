"""What the tests of the AMQP transport share: opened transports, messages, and a foreign client."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aio_pika

from service_scaffold.message import Message
from service_scaffold.transports.address import Address
from service_scaffold.transports.amqp import AmqpTransport
from service_scaffold.transports.base import (
    Binding,
    Delivery,
    Intake,
    IntakeSpec,
    Progress,
    Settings,
)


def settings(url: str, **changes: Any) -> Settings:
    """Return settings for `url`."""
    return Settings(Address.parse(url), name='service', instance='one', **changes)


@asynccontextmanager
async def connected(url: str, **changes: Any) -> AsyncIterator[AmqpTransport]:
    """A transport, connected, and closed in the end."""
    transport = AmqpTransport(settings(url, **changes))
    try:
        await transport.connect()
        yield transport
    finally:
        await transport.close()


@asynccontextmanager
async def foreign(url: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """A channel of aio-pika, for what others do on the broker."""
    connection = await aio_pika.connect(url)
    try:
        yield await connection.channel()
    finally:
        await connection.close()


def topic(exchange: str, pattern: str = '#') -> Binding:
    """A binding of a topic exchange."""
    return Binding(exchange, 'topic', pattern)


async def group(
    transport: AmqpTransport, exchange: str, *patterns: str, prefetch: int = 32, name: str = 'g'
) -> Intake:
    """The intake of group `name` on `exchange`, bound to `patterns` or to all."""
    intake = await transport.intake(IntakeSpec(group=name, exchange=exchange, prefetch=prefetch))
    refused = await intake.bind([topic(exchange, pattern) for pattern in patterns or ('#',)])
    assert not refused
    return intake


async def live(transport: AmqpTransport, *bindings: Binding) -> Intake:
    """A live intake with these bindings."""
    intake = await transport.intake(IntakeSpec())
    assert not await intake.bind(bindings)
    return intake


async def publish(transport: AmqpTransport, exchange: str, *bodies: bytes) -> None:
    """Publish bodies under the routing key `a.b`; all must be confirmed."""
    messages = [Message(exchange, 'a.b', body) for body in bodies]
    assert not await transport.publish(messages, Progress())


async def take(intake: Intake, count: int) -> list[Delivery]:
    """Fetch exactly `count` deliveries."""
    found: list[Delivery] = []
    while len(found) < count:
        found += await intake.fetch(count - len(found))
    return found


def bodies(deliveries: Sequence[Delivery]) -> list[bytes]:
    """Their bodies, in order."""
    return [delivery.body for delivery in deliveries]


def numbers(count: int) -> list[bytes]:
    """Bodies `0`, `1`, …"""
    return [str(number).encode() for number in range(count)]


def amqp_publish(url: str, exchange: str, routing: str, body: str) -> None:
    """Publish with the command line tool of librabbitmq, which sets no properties."""
    command = ['amqp-publish', f'--url={url}', '-e', exchange, '-r', routing, '-b', body]
    subprocess.run(command, check=True, timeout=10, capture_output=True)
