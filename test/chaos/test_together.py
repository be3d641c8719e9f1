"""A machine, a site that shows it, and a pipeline, on one broker: any of them, and it, is killed.

Real processes, looked at from outside only: over HTTP, and by what the pipeline tells.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from service_scaffold.testing.conformance import Instance
from test.brokers.process import Broker, free_port, kill
from test.chaos.processes import Worker, start
from test.chaos.told import Told

Pipeline = functools.partial(Worker, module='test.chaos.pipeline')
LEASE_S = 2.0
MISSED_S = 1.5 * LEASE_S + 2.0
"""In so many seconds everybody knows of a death: that is promised, and two are for asking."""
BACK_S = 30.0
CALL_S = 10.0

pytestmark = pytest.mark.timeout(180)


class Program:
    """An example as a process; it comes back at the same port."""

    def __init__(self, name: str, url: str, instance: str, directory: Path) -> None:
        self.base = f'http://127.0.0.1:{(port := free_port())}'
        self.log = directory / f'{name}.log'
        self._name = name
        self._options: dict[str, object] = {
            'eventbus_url': url,
            'instance': instance,
            'host': '127.0.0.1',
            'port': port,
            'asset_lease_s': LEASE_S,
            'publish_timeout_s': 3,
        }
        self.start()

    def start(self) -> None:
        """Start it, for the first time or again."""
        self.process = start(f'examples.{self._name}', self._options, self.log)

    def kill(self) -> None:
        """End it with SIGKILL."""
        kill(self.process)

    async def ask(self, path: str, body: object = None) -> tuple[int, Any]:
        """Ask by GET, or POST a body; return status and answer, (0, None) while nobody listens."""
        limit = aiohttp.ClientTimeout(total=CALL_S)
        method = 'GET' if body is None else 'POST'
        async with aiohttp.ClientSession(timeout=limit) as session:
            try:
                async with session.request(method, self.base + path, json=body) as response:
                    text = await response.text()
            except aiohttp.ClientConnectionError:
                return 0, None
        return response.status, json.loads(text)

    async def becomes(
        self, path: str, wanted: Callable[[int, Any], bool], timeout_s: float
    ) -> float:
        """Ask until the answer is as wanted; return after how many seconds it is."""
        began, answer = time.monotonic(), None
        while not (answer and wanted(*answer)):
            assert time.monotonic() - began < timeout_s, f'{path} is {answer}'
            assert self.process.poll() is None, f'{self._name} has ended'
            await asyncio.sleep(0.05)
            answer = await self.ask(path)
        return time.monotonic() - began


class Plant:
    """What runs together.

    Attributes:
        mill: The machine, of `examples/mill.py`.
        site: The site, of `examples/site.py`.
        pipeline: The distributed application.
    """

    def __init__(
        self, broker: Broker, unique: str, directory: Path, outside: tuple[Instance, Told]
    ) -> None:
        self._broker, self._unique, self._directory = broker, unique, directory
        self._instance, self._told = outside
        self._numbers = itertools.count()
        self._stack = AsyncExitStack()
        self.mill = Program('mill', broker.url, unique, directory)
        self.site = Program('site', broker.url, unique, directory)
        self.pipeline: Worker

    async def start_pipeline(self) -> None:
        """Start the pipeline, for the first time or again, under its name."""
        made = Pipeline(self._broker.url, self._unique, 'w', self._directory)
        self.pipeline = await self._stack.enter_async_context(made)

    async def publish(self, count: int = 5) -> set[int]:
        """Publish work; return the numbers, all confirmed by the broker."""
        numbers = set(itertools.islice(self._numbers, count))
        for number in numbers:
            await self._instance.publish(self._unique, 'tank', {'n': number})
        return numbers

    async def works(self, timeout_s: float = BACK_S) -> None:
        """What is published is handled."""
        await self._told.until('done', await self.publish(), timeout_s)

    async def handles(self, numbers: set[int]) -> None:
        """What was published is handled."""
        await self._told.until('done', numbers, BACK_S)

    async def pipeline_is_not_ready(self) -> None:
        """The pipeline has noticed that there is no broker."""
        async with asyncio.timeout(BACK_S):
            while await self.pipeline.status_of('/_service/ready') == 200:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)

    async def hears(self) -> None:
        """Who listens to the pipeline has found the broker again."""
        for subscription in self._instance.listener.subscriptions:
            await subscription.wait_active(BACK_S)

    async def shows(self, *, available: bool, timeout_s: float) -> float:
        """The site shows whether the machine is there; returns after how many seconds."""
        return await self.site.becomes(
            '/machines/mill-1',
            lambda status, shown: status == 200 and shown['available'] is available,
            timeout_s,
        )

    async def moves(self) -> None:
        """The machine is called from the site's process, and the site shows what came of it."""
        _, before = await self.site.ask('/machines/mill-1')
        call = '/_service/assets/mill-1/methods/move'
        assert await self.site.ask(call, {'x': 0.3, 'y': 0.4}) == (200, {'value': 0.5})
        wanted = before['values']['distance'] + 0.5
        await self.site.becomes(
            '/machines/mill-1', lambda _, shown: shown['values']['distance'] == wanted, CALL_S
        )

    async def is_right(self, timeout_s: float = BACK_S) -> None:
        """Each is well, the site shows the machine, calls are answered, work is done."""
        await self.shows(available=True, timeout_s=timeout_s)
        await self.mill.becomes('/_service/status', _is_well, timeout_s)
        await self.site.becomes('/_service/status', _is_well, timeout_s)
        await self.mill.becomes(
            '/mill-1/assets/site/avail', lambda _, one: one['value'] == 'AVAILABLE', timeout_s
        )
        await self.moves()
        await self.works(timeout_s)

    async def close(self) -> None:
        """End all of it; what each has said is shown with a failure."""
        await self._stack.aclose()
        for program in (self.mill, self.site):
            program.kill()
        for log in sorted(self._directory.glob('*.log')):
            print(f'{log.name}:\n{log.read_text()[-6000:]}')


def _is_well(status: int, answer: Any) -> bool:
    return status == 200 and answer['status'] == 'ok'


def _is_degraded(status: int, answer: Any) -> bool:
    return status == 200 and answer['status'] == 'degraded'


@pytest_asyncio.fixture
async def plant(
    request: pytest.FixtureRequest, broker: Broker, unique: str, tmp_path: Path, teller
) -> AsyncIterator[Plant]:
    """All three, up and right."""
    made = Plant(broker, unique, tmp_path, teller)
    try:
        await made.start_pipeline()
        await made.is_right()
        yield made
    finally:
        await made.close()


async def test_a_killed_machine_is_missed_and_comes_back(plant: Plant) -> None:
    plant.mill.kill()
    await plant.shows(available=False, timeout_s=MISSED_S)
    status, problem = await plant.site.ask('/_service/assets/mill-1/methods/move', {'x': 1, 'y': 1})
    assert (status, problem['status']) == (503, 503)
    _, stale = await plant.site.ask('/_service/assets/mill-1/distance')
    assert (stale['value'], stale['quality']) == (0.5, 'stale')
    await plant.site.becomes('/_service/status', _is_well, CALL_S)
    await plant.works()

    plant.mill.start()
    await plant.is_right()
    _, fresh = await plant.site.ask('/_service/assets/mill-1/distance')
    assert (fresh['value'], fresh['quality']) == (0.5, 'good')


async def test_a_killed_site_disturbs_nobody_and_comes_back(plant: Plant) -> None:
    plant.site.kill()
    await plant.mill.becomes(
        '/mill-1/assets/site/avail', lambda _, one: one['value'] == 'UNAVAILABLE', MISSED_S
    )
    call = '/mill-1/assets/mill-1/methods/move'
    assert await plant.mill.ask(call, {'x': 0.3, 'y': 0.4}) == (200, {'value': 0.5})
    await plant.works()

    plant.site.start()
    await plant.is_right()
    _, shown = await plant.site.ask('/machines/mill-1')
    assert shown['values']['distance'] == 1.5


async def test_what_a_killed_pipeline_had_not_handled_waits_for_it(plant: Plant) -> None:
    plant.pipeline.kill()
    waiting = await plant.publish(20)
    await plant.shows(available=True, timeout_s=CALL_S)
    await plant.moves()

    await plant.start_pipeline()
    await plant.handles(waiting)
    await plant.is_right()


async def test_all_are_right_again_when_the_broker_is_back(plant: Plant, broker: Broker) -> None:
    """Meanwhile each answers, and says that it is not well."""
    await asyncio.sleep(broker.saved_s)
    await asyncio.to_thread(broker.kill)
    for program in (plant.mill, plant.site):
        await program.becomes('/_service/status', _is_degraded, BACK_S)
    await plant.pipeline_is_not_ready()
    _, shown = await plant.site.ask('/machines/mill-1')
    assert shown['values']['distance'] == 0.5
    await asyncio.to_thread(broker.start)

    await plant.hears()
    await plant.pipeline.ready()
    await plant.is_right()
    _, shown = await plant.site.ask('/machines/mill-1')
    assert shown['values']['distance'] == 1.0


async def test_confirmed_work_outlives_the_pipeline_and_an_orderly_restart_of_the_broker(
    plant: Plant, broker: Broker
) -> None:
    plant.pipeline.kill()
    waiting = await plant.publish(20)
    await asyncio.to_thread(broker.restart)

    await plant.hears()
    await plant.start_pipeline()
    await plant.handles(waiting)
    await plant.is_right()
