"""The memory transport: routing, groups, live views, settlement, dead letters, replies."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold.journal.memory_broker import discard_broker
from service_scaffold.message import Message
from service_scaffold.transports import memory, open_transport
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


@pytest.fixture
def bus():
    """The bus of `memory://test`, new for each test."""
    yield memory.broker('test')
    discard_broker('test')


@pytest.fixture
async def client(bus):
    """A connected transport."""
    return await connected()


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


class TestRouting:
    async def test_a_message_reaches_every_group_and_every_live_view_once(self, client):
        one, two = await group(client, 'one'), await group(client, 'two', 'tank.*')
        view = await live(client, 'tank.*', '#.level')

        await publish(client, 'tank.level')

        assert [bodies(await fetch(i)) for i in (one, two, view)] == [['tank.level']] * 3
        assert await nothing(view)

    async def test_an_exchange_does_not_see_another_one(self, client):
        intake = await group(client)

        await client.publish([Message('other', 'tank.level', b'1')], Progress())

        assert await nothing(intake)

    @pytest.mark.parametrize(
        ('exchange_type', 'pattern', 'routing', 'found'),
        [
            ('direct', 'tank.*', 'tank.level', False),
            ('direct', 'tank.level', 'tank.level', True),
            ('fanout', 'anything', 'tank.level', True),
        ],
    )
    async def test_exchange_types_match_differently(
        self, client, exchange_type, pattern, routing, found
    ):
        intake = await client.intake(IntakeSpec('g', 'plant', exchange_type))
        await intake.bind([Binding('plant', exchange_type, pattern)])

        await publish(client, routing, exchange_type=exchange_type)

        assert await nothing(intake) is not found
