"""A broker that crashes again and again: nothing piles up, here or there."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service_scaffold.testing.conformance import Inbox, Instance, Instances
from service_scaffold.testing.conformance.inbox import eventually
from service_scaffold.transports.kafka_group import group_id
from test.brokers.kafka import Kafka
from test.brokers.mosquitto import Mosquitto
from test.brokers.process import Broker
from test.brokers.rabbitmq import RabbitMQ
from test.brokers.required import require_broker
from test.chaos.broker_side import held_by

SYSTEM_S = 1
"""How often Mosquitto counts."""
SETTINGS = {'mosquitto': {'sys_interval': str(SYSTEM_S)}}


@pytest.fixture(params=(RabbitMQ, Kafka, Mosquitto), ids=lambda kind: kind.name)
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A broker that nobody else has ever used."""
    require_broker(request.param)
    with request.param(settings=SETTINGS.get(request.param.name)) as made:
        yield made


@pytest.mark.timeout(240)
async def test_five_crashes_leave_nothing_behind(broker: Broker, instances: Instances, unique):
    """Tasks, files, memory, and what the broker holds for us are as after the first connect."""
    instance = await instances.start()
    view, group = Inbox(), Inbox()
    made = [
        await instance.subscribe(unique, '#', view),
        await instance.subscribe(unique, '#', group, group='g'),
    ]
    await _round_trip(instance, unique, group, 0)
    await asyncio.sleep(broker.saved_s)
    held = await _steadily_held(broker, group_id('g', unique))
    assert min(held.values()) > 0
    tasks, descriptors, memory_mib = len(asyncio.all_tasks()), _descriptors(), _memory_mib()

    for number in range(1, 6):
        await asyncio.to_thread(broker.kill)
        await eventually(lambda: not instance.listener.health().ok, 30)
        await asyncio.to_thread(broker.start)
        for subscription in made:
            await subscription.wait_active(30)
        await _round_trip(instance, unique, group, number)
        await view.all_of([number])

    await eventually(lambda: len(asyncio.all_tasks()) <= tasks, 10)
    await eventually(lambda: _descriptors() <= descriptors, 10)
    grown_mib = _memory_mib() - memory_mib
    now = await _steadily_held(broker, group_id('g', unique))
    print(f'{broker.name}: {held}, then {now}; {tasks} tasks; {grown_mib:+.1f} MiB')
    # A client of Kafka opens one for a question, and need not have asked it again.
    assert now.pop('TCP connections') <= held.pop('TCP connections')
    assert now == held
    assert grown_mib < 10


async def _round_trip(instance: Instance, exchange: str, inbox: Inbox, number: int) -> None:
    await instance.publish(exchange, 'tank', number)
    await inbox.all_of([number])


async def _steadily_held(broker: Broker, group: str) -> dict[str, int]:
    """Return what the broker holds, when that has not changed for longer than it needs to count."""
    held, since = await held_by(broker, group), time.monotonic()
    async with asyncio.timeout(30):
        while time.monotonic() - since < 2.5 * SYSTEM_S:
            await asyncio.sleep(0.5)
            now = await held_by(broker, group)
            if now != held:
                held, since = now, time.monotonic()
    return held


def _descriptors() -> int:
    return len(os.listdir('/proc/self/fd'))


def _memory_mib() -> float:
    gc.collect()
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 2**20
