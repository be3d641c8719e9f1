"""Assets seen from outside: processes that own them are stopped and killed, brokers restart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from service_scaffold import assets, service
from service_scaffold.testing import running
from service_scaffold.testing.conformance.inbox import eventually
from test.brokers.mosquitto import Mosquitto
from test.brokers.process import Broker, kill
from test.chaos.processes import Worker

LEASE_S = 2.0
LOST_S = 1.5 * LEASE_S
SOON_S = 30.0
"""For what has no promised time, on a machine that has other things to do."""
SHUTDOWN_S = 8.0
STOP_S = SHUTDOWN_S + 3.0

Start = Callable[..., Worker]


@pytest_asyncio.fixture
async def watcher(broker: Broker, unique: str) -> AsyncIterator[web.Application]:
    """A service of this process that looks at assets."""
    app = service.create_app(
        'watcher',
        raw_args=[
            *('--eventbus-url', broker.url, '--instance', f'w{unique}'),
            *('--asset-lease-s', str(LEASE_S), '--publish-timeout-s', '3'),
        ],
    )
    assets.setup(app)
    async with running(app):
        yield app


@pytest.fixture
def begin(broker: Broker, unique: str, tmp_path: Path) -> AsyncIterator[Start]:
    """Start a process that is an asset named `s{unique}`; killed at the end."""
    workers: list[Worker] = []

    def begin_one(loop: str, instance: str = 'one', **more: object) -> Worker:
        options = {
            'asset_lease_s': LEASE_S,
            'shutdown_timeout_s': SHUTDOWN_S,
            'loop': loop,
            **more,
        }
        worker = Worker(
            broker.url, unique, instance + unique, tmp_path, 'test.chaos.plant', **options
        )
        workers.append(worker)
        return worker

    yield begin_one  # type: ignore[misc]
    for worker in workers:
        kill(worker.process)
        print(f'{worker.instance}:\n{worker.log.read_text()[-4000:]}')


class History:
    """What was told of one attribute."""

    def __init__(self, asset: assets.AssetProxy, attribute: str = 'avail') -> None:
        self.values: list[object] = []
        asset.subscribe(lambda told: self.values.append(told.value), attribute=attribute)

    async def ends(self, *values: object, timeout_s: float = SOON_S) -> None:
        """Wait until the last ones are these."""
        await eventually(lambda: tuple(self.values[-len(values) :]) == values, timeout_s)


async def becomes(asset: assets.AssetProxy, value: str, timeout_s: float = SOON_S) -> None:
    """Wait for an availability."""
    await asset.wait_for('avail', lambda known: known == value, timeout_s=timeout_s)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
async def test_it_says_what_it_is_is_available_and_then_works_until_a_signal(
    watcher: web.Application, begin: Start, unique: str, number: signal.Signals
) -> None:
    plant = await assets.open(watcher, f's{unique}')
    history = History(plant)
    worker = begin('InThread' if number == signal.SIGTERM else 'InLoop')
    await becomes(plant, assets.AVAILABLE)
    await plant.wait_for('temperature', lambda value: value == 21.5)
    log = worker.log.read_text()
    begun = re.search(r'Begun at (\S+)', log)
    assert begun is not None
    assert re.search(rf' s{unique}\n', log[: begun.start()])  # the banner
    assert f'[s{unique}] First line of the loop' in log
    assert plant['avail'].timestamp < float(begun[1])

    worker.process.send_signal(number)
    assert await worker.ended(STOP_S) == 0
    await history.ends(assets.AVAILABLE, assets.UNAVAILABLE, timeout_s=SOON_S)
    assert (plant['temperature'].value, plant['temperature'].quality) == (21.5, 'stale')
    assert worker.log.read_text().count('The hook has run') == 1
    if number == signal.SIGTERM:
        await asyncio.sleep(LOST_S)  # it has left: nobody is told that it was lost
    assert history.values == [assets.AVAILABLE, assets.UNAVAILABLE]


async def test_a_loop_that_raises_is_told_once_and_the_status_is_1(
    watcher: web.Application, begin: Start, unique: str
) -> None:
    plant = await assets.open(watcher, f's{unique}')
    history = History(plant)
    for count, loop in enumerate(('FailsInThread', 'FailsInLoop'), 1):
        worker = begin(loop)
        assert await worker.ended(SOON_S) == 1
        log = worker.log.read_text()
        assert log.count('An error occurred in the main loop') == 1
        assert log.count('ZeroDivisionError: too fast') == 1
        assert log.count('The hook has run') == 1
        expected = [assets.AVAILABLE, assets.UNAVAILABLE] * count
        await eventually(lambda expected=expected: history.values == expected, SOON_S)


async def test_a_loop_that_never_looks_at_stopping_is_left_behind_with_status_0(
    brokers: Callable[[type[Broker]], Broker], unique: str, tmp_path: Path
) -> None:
    url = brokers(Mosquitto).url
    options = {'shutdown_timeout_s': SHUTDOWN_S, 'loop': 'Stubborn'}
    async with Worker(url, unique, unique, tmp_path, 'test.chaos.plant', **options) as worker:
        status, took_s = await worker.terminate(STOP_S)
    assert (status, took_s < SHUTDOWN_S) == (0, True)
    log = worker.log.read_text()
    assert 'main_loop has not ended' in log
    assert 'Counter: 1' in log
    assert 'Traceback' not in log


async def test_replicas_are_assets_of_their_own(
    watcher: web.Application, begin: Start, unique: str
) -> None:
    for number in (1, 2, 3):
        begin('Idle', f'replica{number}', replica=number)
    proxies = [await assets.open(watcher, f's{unique}-{number}') for number in (1, 2, 3)]
    for proxy in proxies:
        await becomes(proxy, assets.AVAILABLE)
    turned = [proxy.request('turn', degrees=90 + n) for n, proxy in enumerate(proxies)]
    assert await asyncio.gather(*turned) == [270, 269, 268]


async def test_calls_are_checked_answered_and_not_mixed_up(
    watcher: web.Application, begin: Start, unique: str
) -> None:
    plant = await assets.open(watcher, f's{unique}')
    worker = begin('InThread')
    await becomes(plant, assets.AVAILABLE)
    assert await plant.request('move', x=1, y=2.5) == '1.0/2.5 at 100'
    with pytest.raises(assets.BadRequest, match='y: missing'):
        await plant.request('move', x=1)
    with pytest.raises(assets.BadRequest, match='y: Expected `float`, got `str`'):
        await plant.request('move', x=1, y='abc')
    with pytest.raises(assets.UnknownMethod):
        await plant.request('rotate', degrees=1)
    moves = [plant.request('move', x=n, y=n, speed=n) for n in range(50)]
    turns = [plant.request('turn', degrees=n) for n in range(50)]
    answers = await asyncio.gather(*moves, *turns)
    assert answers[:50] == [f'{n:.1f}/{n:.1f} at {n}' for n in range(50)]
    assert answers[50:] == list(range(50))

    lingering = asyncio.ensure_future(plant.request('linger', timeout_s=60))
    await plant.request('move', x=0, y=0)  # another method is not held up
    worker.kill()
    killed = time.monotonic()
    with pytest.raises(assets.AssetUnavailable, match='went away'):
        await lingering
    assert time.monotonic() - killed < LOST_S + 1
    asked = time.monotonic()
    with pytest.raises(assets.AssetUnavailable, match='is not available'):
        await plant.request('move', x=1, y=1)
    assert time.monotonic() - asked < 0.2
    patient = asyncio.ensure_future(plant.request('turn', degrees=1, queue=True, timeout_s=SOON_S))
    begin('Idle')
    assert await patient == 359


async def test_an_owner_that_is_killed_is_lost_in_time_and_comes_back(
    broker: Broker, watcher: web.Application, begin: Start, unique: str
) -> None:
    plant = await assets.open(watcher, f's{unique}')
    history = History(plant)
    worker = begin('Idle')
    await becomes(plant, assets.AVAILABLE)
    assert await plant.request('heat', to=50)
    await plant.wait_for('temperature', lambda value: value == 50)

    worker.kill()
    killed = time.monotonic()
    await history.ends(assets.AVAILABLE, assets.UNAVAILABLE)
    assert time.monotonic() - killed < LOST_S + 0.5  # of which half a second is the machine's
    assert (plant['temperature'].value, plant['temperature'].quality) == (50, 'stale')

    begin('Idle', 'again')
    await history.ends(assets.UNAVAILABLE, assets.AVAILABLE)
    await asyncio.sleep(LOST_S)  # the late notice of the old life changes nothing
    assert history.values == [assets.AVAILABLE, assets.UNAVAILABLE, assets.AVAILABLE]
    assert plant['mode'].quality == 'good'
    assert plant['temperature'].quality == 'stale'


async def test_an_owner_that_stands_still_is_lost_until_it_goes_on(
    watcher: web.Application, begin: Start, unique: str
) -> None:
    plant = await assets.open(watcher, f's{unique}')
    worker = begin('Idle')
    await becomes(plant, assets.AVAILABLE)
    os.kill(worker.process.pid, signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        await becomes(plant, assets.UNAVAILABLE)
        assert time.monotonic() - stopped < LOST_S + 0.5
    finally:
        os.kill(worker.process.pid, signal.SIGCONT)
    await becomes(plant, assets.AVAILABLE)
    assert await plant.request('heat', to=7)
    assert (await worker.terminate(STOP_S))[0] == 0


async def test_a_second_owner_takes_over_and_the_first_lives_on_without_a_word(
    watcher: web.Application, begin: Start, unique: str
) -> None:
    plant = await assets.open(watcher, f's{unique}')
    first = begin('InLoop', 'first')
    await becomes(plant, assets.AVAILABLE)
    await first.ready()
    second = begin('Idle', 'second')
    await second.ready()
    await eventually(lambda: 'has a newer owner' in first.log.read_text(), SOON_S)
    assert first.log.read_text().count('CRITICAL') == 1
    answers = await asyncio.gather(*(plant.request('turn', degrees=n) for n in range(1, 20)))
    assert answers == [-n % 360 for n in range(1, 20)]  # none of the first one
    assert await plant.request('heat', to=80)
    await plant.wait_for('temperature', lambda value: value == 80)
    await asyncio.sleep(0.5)  # in which the first sets it several times
    assert plant['temperature'].value == 80
    assert first.process.poll() is None
    assert await first.status_of('/_service/ready') == 200
    assert await _state_of(first) == 'degraded'
    assert await _state_of(second) == 'ok'
    assert (await first.terminate(STOP_S))[0] == 0
    await asyncio.sleep(0.5)
    assert plant.available


async def _state_of(worker: Worker) -> str:
    async with aiohttp.ClientSession() as client, client.get(f'{worker.base}/_service/status') as r:
        return str((await r.json())['status'])


async def test_values_outlive_owner_and_broker_and_who_came_too_early_becomes_available(
    broker: Broker, begin: Start, unique: str
) -> None:
    url = ('--eventbus-url', broker.url, '--asset-lease-s', str(LEASE_S))

    async def look(name: str) -> tuple[AsyncExitStack, web.Application]:
        app = service.create_app(name, raw_args=[*url, '--instance', name + unique])
        assets.setup(app)
        stack = AsyncExitStack()
        await stack.enter_async_context(running(app))
        return stack, app

    stack, app = await look('before')
    async with stack:
        worker = begin('Idle')
        plant = await assets.open(app, f's{unique}')
        await becomes(plant, assets.AVAILABLE)
        assert await plant.request('heat', to=50.5)
        await plant.wait_for('temperature', lambda value: value == 50.5)
        before = dict(plant.attributes())
        assert (await worker.terminate(STOP_S))[0] == 0
    await asyncio.to_thread(broker.stop)
    early = begin('Idle', 'early', replica=2)
    await eventually(lambda: 'will keep trying' in early.log.read_text(), SOON_S)
    assert await early.status_of('/_service/ready') == 503
    await asyncio.to_thread(broker.start)
    stack, app = await look('after')
    async with stack:
        plant = await assets.open(app, f's{unique}')
        assert not plant.available
        after = plant.attributes()
        assert set(after) == set(before)
        for id in set(before) - {'avail'}:
            one, other = before[id], after[id]
            assert (other.value, other.kind, other.tag) == (one.value, one.kind, one.tag)
            assert type(other.value) is type(one.value)
            assert (other.timestamp, other.quality) == (one.timestamp, 'stale')
        assert (after['temperature'].value, after['temperature'].tag) == (50.5, 'Temp')
        assert (after['state'].kind, after['mode'].kind) == ('condition', 'event')
        await becomes(await assets.open(app, f's{unique}-2'), assets.AVAILABLE)


async def test_a_thousand_updates_reach_each_subscriber_in_order(
    watcher: web.Application, broker: Broker, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = service.create_app(
        'owner',
        raw_args=[
            *('--eventbus-url', broker.url, '--instance', f'o{unique}'),
            # This Mosquitto may be killed, so it writes its whole database at each change.
            *('--publish-timeout-s', str(SOON_S)),
        ],
    )
    assets.setup(app)
    async with running(app):
        own = await assets.add(app, unique)
        seen = await assets.open(watcher, unique)
        told: dict[str, list[tuple[str, object]]] = {'one': [], 'all': [], 'again': []}

        def fail(attribute: assets.Attribute) -> None:
            raise ZeroDivisionError(attribute.id)

        async def note(attribute: assets.Attribute) -> None:
            await asyncio.sleep(0)
            told['again'].append((attribute.id, attribute.value))

        seen.subscribe(fail, kind='sample')
        for name, chosen in (('one', {'attribute': 'a3'}), ('all', {'kind': 'sample'})):
            seen.subscribe(
                lambda got, into=told[name]: into.append((got.id, got.value)),  # type: ignore[misc]
                **chosen,  # type: ignore[arg-type]
            )
        seen.subscribe(note, kind='sample')
        expected = [(f'a{n % 10}', n + 0.5 if n % 2 else n) for n in range(1000)]
        tens = [dict(expected[first : first + 10]) for first in range(0, 1000, 10)]
        await asyncio.gather(*map(own.set_many, tens))
        await own.set('end', 'now')
        await seen.wait_for('end', lambda value: value == 'now', timeout_s=SOON_S)
        await eventually(lambda: len(told['again']) >= 1000, SOON_S)
        assert told['all'] == told['again'] == expected
        assert told['one'] == [pair for pair in expected if pair[0] == 'a3']
        assert [type(value) for _, value in told['all'][:2]] == [int, float]
    assert caplog.text.count('ZeroDivisionError: a3') == 100


async def _called(asset: assets.AssetProxy, method: str, **arguments: object) -> None:
    """Call until it is answered: what is sent while the owner is not back reaches nobody."""
    async with asyncio.timeout(SOON_S):
        while True:
            with contextlib.suppress(TimeoutError, assets.AssetUnavailable):
                await asset.request(method, timeout_s=1, **arguments)
                return
            await asyncio.sleep(0.05)


async def test_a_broker_restarts_under_owner_and_watcher_and_is_gone_when_they_stop(
    broker: Broker, watcher: web.Application, begin: Start, unique: str
) -> None:
    plant = await assets.open(watcher, f's{unique}')
    worker = begin('Idle')
    await becomes(plant, assets.AVAILABLE)
    assert await plant.request('heat', to=1)
    await asyncio.to_thread(broker.restart)
    back = time.monotonic()
    await _called(plant, 'heat', to=2)
    await plant.wait_for('temperature', lambda value: value == 2, timeout_s=SOON_S)
    await becomes(plant, assets.AVAILABLE)
    assert plant['temperature'].quality == 'good'
    assert time.monotonic() - back < 15
    await asyncio.sleep(LOST_S)
    assert plant.available
    await worker.ready()

    await asyncio.to_thread(broker.kill)
    status, took_s = await worker.terminate(STOP_S + 5)
    assert (status, took_s < STOP_S) == (0, True)
