"""Distributed applications while brokers go and come, and processes are stopped and killed."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections import Counter
from pathlib import Path

import pytest

from service_scaffold import errors, features
from service_scaffold.testing.conformance.inbox import eventually
from test.apps.plants import plant, until
from test.brokers.process import Broker
from test.chaos.processes import Worker
from test.running import get

Pipeline = functools.partial(Worker, module='test.chaos.pipeline')
AWAY_S = 2.0
LIMIT_S = 60.0


@pytest.mark.timeout(180)
async def test_a_broker_that_was_away_is_subscribed_to_again(broker: Broker, unique: str):
    """T23: the producer hears of it, nothing crashes, and what was accepted is handled."""
    app = plant(unique, eventbus_url=broker.url, instance=unique, publish_timeout_s=2)
    accepted: list[int] = []
    refused: list[Exception] = []
    handled: Counter[int] = Counter()
    enough = asyncio.Event()

    @app.application(f'{unique}q')
    async def take(message):
        handled[message.value] += 1

    @app.producer()
    async def send(socket):
        number = 0
        while not enough.is_set():
            number += 1
            try:
                await socket.publish(f'{unique}q/a', number)
            except errors.PublishError as error:
                refused.append(error)
            else:
                accepted.append(number)
            await asyncio.sleep(0.1)

    running = asyncio.ensure_future(app.run_async())
    await until(lambda: len(handled) >= 20)  # RabbitMQ keeps a new quorum queue after a moment
    before = accepted[-1]
    await asyncio.to_thread(broker.stop)
    await until(lambda: len(refused) >= 2)
    assert app.functions['send'].state == 'running'
    assert not features.get_lifecycle(app.application).ready
    await asyncio.sleep(AWAY_S)
    await asyncio.to_thread(broker.start)
    back = len(handled)
    await until(lambda: len(handled) >= back + 5, LIMIT_S)
    kept = set(accepted)
    if broker.name == 'mosquitto':  # it forgets shared subscriptions when it restarts
        kept = {number for number in kept if not before < number <= max(handled)}
    enough.set()
    await until(lambda: kept <= set(handled), LIMIT_S)
    await app.stop()

    assert await running == 0


async def test_it_starts_without_a_broker_unless_that_is_required_and_works_when_it_comes(
    broker: Broker, teller, unique: str, tmp_path: Path
):
    """T24: it answers `degraded`, then `ok`; one that cannot do without has ended meanwhile."""
    instance, told = teller
    await asyncio.to_thread(broker.stop)
    began = time.monotonic()
    worker = Pipeline(broker.url, unique, 'w', tmp_path)
    options = {'eventbus_required': 'start', 'connect_timeout_s': 2}
    strict = Pipeline(broker.url, unique, 'strict', tmp_path, **options)
    try:
        await eventually(lambda: _reached(worker), 30)
        status = await _status(worker)
        assert status['status'] == 'degraded'
        assert await worker.status_of('/_service/ready') == 503
        assert await strict.ended(20) == 1
        assert time.monotonic() - began < 12
        assert 'no event bus at' in strict.log.read_text()
        await asyncio.to_thread(broker.start)
        async with worker:
            for subscription in instance.listener.subscriptions:
                await subscription.wait_active(LIMIT_S)
            await instance.publish(unique, 'tank', {'n': 1})
            await told.until('done', {1}, LIMIT_S)
            assert (await _status(worker))['status'] == 'ok'
            assert (await worker.terminate(20))[0] == 0
    finally:
        worker.kill()
        strict.kill()


async def test_sigterm_lets_running_calls_finish_and_leaves_resources(
    broker: Broker, teller, unique: str, tmp_path: Path
):
    instance, told = teller
    async with Pipeline(broker.url, unique, 'w', tmp_path, concurrency=5) as worker:
        items = [(f'tank.{n}', {'n': n, 'work_s': 2}, f'k{n}') for n in range(5)]
        await instance.publisher.publish_many(unique, items)
        await told.until('begun', set(range(5)))

        status, seconds = await worker.terminate(10)

    assert status == 0
    assert seconds < 5
    await told.until('done', set(range(5)), 5)
    await told.until('left', {0}, 5)
    order = [one.key for one in told.received]
    assert order[0] == 'entered'
    assert order[-1] == 'left'


async def test_what_a_killed_instance_had_is_done_by_another(
    broker: Broker, teller, unique: str, tmp_path: Path
):
    instance, told = teller
    async with Pipeline(broker.url, unique, 'w', tmp_path) as worker:
        for number in range(5):
            await instance.publish(unique, 'tank', {'n': number, 'work_s': 60 if number else 0})
        await told.until('begun', {1})
        worker.kill()
    heir = 'w' if broker.name == 'mosquitto' else 'heir'  # with MQTT it waits for its instance
    async with Pipeline(broker.url, unique, heir, tmp_path, concurrency=5):
        await eventually(lambda: told.numbers('begun').count(1) == 2, LIMIT_S)


async def test_a_batch_is_done_with_status_0(broker: Broker, teller, unique: str, tmp_path: Path):
    _, told = teller
    worker = Pipeline(broker.url, unique, 'w', tmp_path, send=50, batch=1)
    try:
        assert await worker.ended(LIMIT_S) == 0, worker.log.read_text()
    finally:
        worker.kill()
    await told.until('done', set(range(50)), 5)
    assert told.numbers('entered') == told.numbers('left') == [0]


async def _status(worker: Worker) -> dict[str, object]:
    code, text = await get(f'{worker.base}/_service/status')
    assert code == 200
    found: dict[str, object] = json.loads(text)
    return found


def _reached(worker: Worker) -> bool:
    return 'Listening on' in worker.log.read_text()
