"""Short words for what the tests of the memory transport do again and again."""

from __future__ import annotations

import asyncio

from service_scaffold.message import Message
from service_scaffold.transports import open_transport
from service_scaffold.transports.address import Address
from service_scaffold.transports.base import (
    Binding,
    Delivery,
    Intake,
    IntakeSpec,
    Progress,
    Settings,
    Transport,
)

ALL = Binding('plant', 'topic', '#')


async def connected(**options: object) -> Transport:
    transport = open_transport(Settings(Address.parse('memory://test'), **options))
    await transport.connect()
    return transport


async def publish(transport: Transport, *routings: str, **options: object):
    messages = [Message('plant', r, r.encode(), **options) for r in routings]
    return await transport.publish(messages, Progress())


async def group(
    transport: Transport, name: str = 'g', pattern: str = '#', prefetch: int = 32
) -> Intake:
    intake = await transport.intake(IntakeSpec(name, 'plant', prefetch=prefetch))
    assert not await intake.bind([Binding('plant', 'topic', pattern)])
    return intake


async def live(transport: Transport, *patterns: str) -> Intake:
    intake = await transport.intake(IntakeSpec())
    assert not await intake.bind([Binding('plant', 'topic', p) for p in patterns or ('#',)])
    return intake


async def fetch(intake: Intake, limit: int = 100) -> list[Delivery]:
    async with asyncio.timeout(1):
        return list(await intake.fetch(limit))


async def nothing(intake: Intake) -> bool:
    """Whether a fetch waits."""
    fetching = asyncio.ensure_future(intake.fetch(1))
    for _ in range(5):
        await asyncio.sleep(0)
    waits = not fetching.done()
    fetching.cancel()
    await asyncio.wait([fetching])
    return waits


def bodies(deliveries: list[Delivery]) -> list[str]:
    return [delivery.body.decode() for delivery in deliveries]
