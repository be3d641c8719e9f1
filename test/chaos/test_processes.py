"""Service processes that get SIGTERM and SIGKILL in the middle of their work."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

import pytest

from service_scaffold.journal import partitioner
from service_scaffold.testing.conformance import Instance
from service_scaffold.testing.conformance.inbox import eventually
from test.brokers.kafka import Kafka
from test.brokers.process import Broker
from test.chaos.processes import Worker
from test.chaos.told import WARM_UP, Told

TAKEN_OVER_S = 25.0


def successor_of(broker: Broker, worker: str) -> str:
    """Return who gets what a worker leaves: anybody, or with MQTT only its own instance."""
    return worker if broker.name == 'mosquitto' else f'{worker}-successor'


async def test_sigterm_lets_running_handlers_finish(broker, teller, unique, tmp_path):
    """Five run and finish; fifty wait and go to the next; status 0, in time."""
    instance, told = teller
    async with Worker(broker.url, unique, 'w', tmp_path, concurrency=5) as worker:
        items = [(f'tank.{n}', {'n': n, 'work_s': 2 if n < 5 else 0}, f'k{n}') for n in range(55)]
        await instance.publisher.publish_many(unique, items[:5])
        await told.until('begun', set(range(5)))
        await instance.publisher.publish_many(unique, items[5:])

        status, seconds = await worker.terminate(10)

    assert status == 0
    assert seconds < 4
    await told.until('done', set(range(5)), 5)
    assert set(told.numbers('begun')) == set(range(5))
    heir = successor_of(broker, 'w')
    async with Worker(broker.url, unique, heir, tmp_path, concurrency=5):
        await told.until('done', set(range(55)))
    assert Counter(told.numbers('done')) == Counter(range(55))


async def test_a_handler_over_the_limit_is_not_settled(broker, teller, unique, tmp_path):
    """It is cut short, the status says so, and its message goes to the next."""
    instance, told = teller
    async with Worker(broker.url, unique, 'w', tmp_path, shutdown_timeout_s=2) as worker:
        await instance.publish(unique, 'tank', {'n': 1, 'work_s': 60})
        await told.until('begun', {1})

        status, seconds = await worker.terminate(10)

    assert status != 0
    assert seconds < 4
    async with Worker(broker.url, unique, successor_of(broker, 'w'), tmp_path):
        await eventually(lambda: told.numbers('begun') == [1, 1], TAKEN_OVER_S)
    assert told.numbers('done') == []


@pytest.mark.parametrize('fault', ['killed', 'silent'])
async def test_stopping_without_a_broker_is_bounded(broker, teller, unique, tmp_path, fault):
    """Whether it refuses or is silent: the limit and three seconds."""
    instance, told = teller
    limit_s = 2
    url = broker.proxied_url
    async with Worker(url, unique, 'w', tmp_path, shutdown_timeout_s=limit_s, views=1) as worker:
        await instance.publish(unique, 'tank', {'n': 1})
        await told.until('done', {1})
        if fault == 'killed':
            await asyncio.to_thread(broker.kill)
        else:
            broker.proxy.half_open()

        _, seconds = await worker.terminate(limit_s + 10)

    assert seconds < limit_s + 3


async def test_a_killed_member_loses_nothing(broker, teller, unique, tmp_path):
    """Three share the work fairly, all see all; one gets SIGKILL, nothing is lost."""
    instance, told = teller
    names = ('w1', 'w2', 'w3')
    async with (
        Worker(broker.url, unique, 'w1', tmp_path, views=1) as victim,
        Worker(broker.url, unique, 'w2', tmp_path, views=1),
        Worker(broker.url, unique, 'w3', tmp_path, views=1),
    ):
        await _settled_group(broker, instance, unique, told)
        items = [(f'tank.{n}', {'n': n}) for n in range(300)]
        for start in range(0, 300, 30):
            await instance.publisher.publish_many(unique, items[start : start + 30])
        await told.until('done', set(range(300)))
        for name in names:
            await eventually(lambda name=name: len(told.numbers('seen', name)) == 300, 10)
        assert Counter(told.numbers('done')) == Counter(range(300))
        assert min(len(told.numbers('done', name)) for name in names) >= 50

        items = [(f'tank.{n}', {'n': n, 'work_s': 0.05}) for n in range(300, 400)]
        await instance.publisher.publish_many(unique, items)
        await eventually(lambda: any(n >= 300 for n in told.numbers('begun', 'w1')), 10)
        victim.kill()
        if broker.name == 'mosquitto':
            async with Worker(broker.url, unique, 'w1', tmp_path):
                await told.until('done', set(range(400)), 40)
        else:
            await told.until('done', set(range(400)), 40)


@pytest.mark.parametrize('broker', [Kafka], indirect=True, ids=['kafka'])
async def test_a_commit_never_skips_what_is_unfinished(broker, teller, unique, tmp_path):
    """Two records of a partition in parallel, the second done, SIGKILL: both come again."""
    instance, told = teller
    first, second = _keys_of_one_partition()
    async with Worker(broker.url, unique, 'w', tmp_path, concurrency=2) as worker:
        await instance.publish(unique, 'tank', {'n': 1, 'work_s': 60}, key=first)
        await told.until('begun', {1})
        await instance.publish(unique, 'tank', {'n': 2}, key=second)
        await told.until('done', {2})
        worker.kill()

    async with Worker(broker.url, unique, 'heir', tmp_path, concurrency=2):
        await eventually(lambda: sorted(told.numbers('begun', 'heir')) == [1, 2], TAKEN_OVER_S)


def _keys_of_one_partition() -> tuple[str, str]:
    found: dict[int, str] = {}
    for number in range(100):
        key = f'k{number}'
        partition = partitioner.partition_of(key.encode(), 4)
        if partition in found:
            return found[partition], key
        found[partition] = key
    raise AssertionError('unreachable')


async def _settled_group(broker: Broker, instance: Instance, exchange: str, told: Told) -> None:
    """Wait until each of the three members gets some of the work."""
    async with asyncio.timeout(30):
        for start in itertools.count(WARM_UP, 30):
            items = [(f'tank.{start + n}', {'n': start + n}) for n in range(30)]
            await instance.publisher.publish_many(exchange, items)
            count = start - WARM_UP + 30
            await eventually(lambda count=count: len(told.news('done')) >= count, 10)
            if {one.value['by'] for one in told.news('done')} == {'w1', 'w2', 'w3'}:
                return
