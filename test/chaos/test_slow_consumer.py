"""A burst that is worked off slowly: bounded in all it takes, and nobody else is disturbed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from service_scaffold import events
from service_scaffold.testing.conformance import Instance
from service_scaffold.testing.conformance.inbox import eventually
from test.brokers.kafka import Kafka
from test.brokers.mosquitto import Mosquitto
from test.brokers.process import Broker
from test.brokers.rabbitmq import RabbitMQ
from test.brokers.required import require_broker
from test.chaos.processes import Worker
from test.chaos.told import Told

BURST = 10_000
SLOW = 400
"""How many take their time; the others only have to come."""
WORK_S = 0.1
WINDOW_S = 3.0
"""How long others are watched at most; the slow ones last three times as long."""
DRAIN_S = 120
AT_ONCE = 4
PREFETCH = events.Policy(concurrency=AT_ONCE).window
# Everything queued is written to disk after each change, else.
SETTINGS = {'autosave_on_changes': 'false', 'autosave_interval': '1800'}


@pytest.fixture(params=(RabbitMQ, Kafka, Mosquitto), ids=lambda kind: kind.name)
def broker(
    request: pytest.FixtureRequest, brokers: Callable[[type[Broker]], Broker]
) -> Iterator[Broker]:
    """Each kind of broker; a Mosquitto that saves as one in production does."""
    if request.param is not Mosquitto:
        yield brokers(request.param)
        return
    require_broker(Mosquitto)
    with Mosquitto(settings=SETTINGS) as made:
        yield made


@pytest.mark.alone
@pytest.mark.timeout(240)
async def test_the_burst_of_a_slow_consumer_disturbs_nobody(broker, teller, unique, tmp_path):
    """Ten thousand messages: four at once, bounded memory, others answer as quick as before."""
    instance, told = teller
    async with Worker(broker.url, unique, 'w', tmp_path, concurrency=AT_ONCE) as worker:
        watch = Watch(broker, worker)
        quiet_s = await _slow(instance, told, unique, range(100))
        before_mib = worker.rss_mib
        async with watch:
            await _burst(instance, unique)
            busy_s = await _slow(instance, told, unique, range(100, 200))
            done = len(told.news('done'))
            pongs = len(told.news('pong'))
            await eventually(lambda: len(told.received) >= 2 * BURST + pongs, DRAIN_S)

    grown_mib = watch.most_mib - before_mib
    print(f'{broker.name}: {quiet_s:.3f} s, {busy_s:.3f} s with {done} done; {grown_mib:.1f} MiB')
    assert 0 < done < SLOW, 'the burst was to last longer'
    assert max(one.value['running'] for one in told.news('begun')) == AT_ONCE
    # A machine that is busy with other things is slow without any burst.
    assert busy_s < max(0.2, 2 * quiet_s)
    assert grown_mib < 20
    assert watch.most_unsettled == (PREFETCH if broker.name == 'rabbitmq' else None)
    assert Counter(told.numbers('done')) == Counter(range(BURST))


class Watch:
    """Looks at the worker from outside, all the time.

    Attributes:
        most_mib: The most memory that it had.
        most_unsettled: The most messages that it held unsettled; None where no broker tells.
    """

    def __init__(self, broker: Broker, worker: Worker) -> None:
        self.most_mib = 0.0
        self.most_unsettled: int | None = None
        self._broker = broker
        self._worker = worker
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            self.most_mib = max(self.most_mib, self._worker.rss_mib)
            if isinstance(self._broker, RabbitMQ):
                found = await asyncio.to_thread(self._unsettled, self._broker)
                self.most_unsettled = max(self.most_unsettled or 0, found)
            await asyncio.sleep(0.2)

    def _unsettled(self, broker: RabbitMQ) -> int:
        # Not the queue's own number, which it tells every few seconds only.
        lines = broker.control('list_channels', '--no-table-headers', 'messages_unacknowledged')
        return max(map(int, lines.split()), default=0)


async def _burst(instance: Instance, exchange: str) -> None:
    items = [
        (f'tank.{n}', {'n': n, 'work_s': WORK_S if n < SLOW else 0}, f'k{n}') for n in range(BURST)
    ]
    for start in range(0, BURST, 1000):
        await instance.publisher.publish_many(exchange, items[start : start + 1000])


async def _slow(instance: Instance, told: Told, exchange: str, numbers: range) -> float:
    """Return the 99th percentile of how long answers take, of another subscription."""
    seconds: list[float] = []
    end = time.monotonic() + WINDOW_S
    for number in numbers:
        began = time.monotonic()
        if began > end:
            break
        await instance.publish(f'{exchange}.ping', 'ping', {'n': number})
        await told.until('pong', {number}, 5)
        seconds.append(time.monotonic() - began)
    return sorted(seconds)[len(seconds) * 99 // 100 - 1]
