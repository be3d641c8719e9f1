"""Nothing confirmed is lost to a group on memory, whatever happens in between."""

from __future__ import annotations

import asyncio
import random

import pytest

from service_scaffold import errors
from service_scaffold.journal.memory_broker import discard_broker
from service_scaffold.message import Message
from service_scaffold.transports import memory
from service_scaffold.transports.base import Progress
from test.transports.memory_clients import connected, group

MESSAGES = 300


@pytest.fixture
def bus():
    """The bus of `memory://test`, new for each test."""
    yield memory.broker('test')
    discard_broker('test')


async def consume(dice: random.Random, handled: list[str]) -> None:
    """Take, settle, hand back, leave, be cancelled and come again, at random."""
    while True:
        try:
            transport = await connected()
            intake = await group(transport, prefetch=dice.randint(1, 8))
            for _ in range(dice.randint(1, 20)):
                fetching = asyncio.ensure_future(intake.fetch(dice.randint(1, 8)))
                await asyncio.wait([fetching], timeout=0.001)
                if not fetching.done():
                    fetching.cancel()
                    continue
                taken = await fetching
                await asyncio.sleep(0)
                kept = [d for d in taken if intake.alive(d) and dice.random() < 0.8]
                handled += [delivery.body.decode() for delivery in kept]
                intake.settle(kept)
                intake.requeue([d for d in taken if intake.alive(d)])
            await transport.close()
        except errors.TransportError:
            await asyncio.sleep(0)


async def produce(confirmed: list[str]) -> None:
    """Publish every message until it is confirmed."""
    transport = None
    for number in range(MESSAGES):
        while True:
            try:
                transport = transport or await connected()
                message = Message('plant', 'a', str(number).encode())
                if not await transport.publish([message], Progress()):
                    break
            except errors.TransportError:
                transport = None
                await asyncio.sleep(0)
        confirmed.append(str(number))


async def break_things(bus, dice: random.Random, faults: list[str]) -> None:
    while True:
        for _ in range(dice.randint(1, 12)):
            await asyncio.sleep(0)
        fault = dice.choice([bus.drop_connections, bus.down, bus.half_open, bus.fail_next_publish])
        fault()
        faults.append(fault.__name__)
        await asyncio.sleep(0)
        bus.up()


@pytest.mark.parametrize('seed', range(5))
async def test_every_confirmed_message_is_handled(bus, seed):
    """Three members, one publisher, and a broker that fails all the time."""
    dice = random.Random(seed)
    handled: list[str] = []
    confirmed: list[str] = []
    faults: list[str] = []
    await (await group(await connected())).close()

    tasks = [asyncio.ensure_future(consume(dice, handled)) for _ in range(3)]
    tasks.append(asyncio.ensure_future(break_things(bus, dice, faults)))
    async with asyncio.timeout(20):
        await produce(confirmed)
        tasks.pop().cancel()
        bus.up()
        await bus.join(10)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

    assert set(confirmed) <= set(handled)
    assert len(confirmed) == MESSAGES
    assert len(faults) > 5
