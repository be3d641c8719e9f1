"""What a worker shows at `/_service/metrics`, in memory and on Kafka."""

from __future__ import annotations

import asyncio
import re

import pytest

from service_scaffold import service, streams, testing
from service_scaffold.observe import metrics
from service_scaffold.streams.progress import RestoreListener
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.windows import TumblingWindow
from test.streams.several import Peer, crew_of, until

APP = re.compile(r'app="[^"]+",|,?app="[^"]+"')


class Shop:
    """Counts words by minute; some of them are not to its liking."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()

    def declare(self, app: Topology) -> None:
        words = app.topic(f'{app.id}-words', value_type=str, partitions=2)
        total = app.Table('total', default=int, partitions=2)
        minutes = app.Table('minutes', default=int, window=TumblingWindow(60, grace=0))
        tries: set[str] = set()

        @app.agent(words, on_error=_decide, name='count')
        async def count(stream):  # type: ignore[no-untyped-def]
            async for event in stream.events():
                await self.open.wait()
                if event.value == 'once' and event.dedup_id not in tries:
                    tries.add(event.dedup_id)
                    raise ValueError('not at first')
                if event.value in ('never', 'dead'):
                    raise ValueError(event.value)
                total[event.value] += 1
                minutes[event.value] += 1

        @app.timer(0.01, name='tick')
        def tick() -> None: ...


def _decide(agent: object, error: Exception) -> streams.Decision:
    if str(error) == 'never':
        return streams.Decision.SKIP
    if str(error) == 'dead':
        return streams.Decision.DEAD_LETTER
    return streams.Decision.RETRY(max=3, backoff_s=0.001)


def parse(text: str) -> dict[str, float]:
    """Return each sample of streams, without the label of the application."""
    found = re.findall(r'^(streams_\S+) (\S+)$', text, re.MULTILINE)
    plain = {APP.sub('', name).replace('{}', ''): float(number) for name, number in found}
    assert len(plain) == len(found), 'a series is there twice'
    return plain


def scraped(peer: Peer) -> dict[str, float]:
    return parse(metrics.Metrics(peer.app).render()[0].decode())


@pytest.fixture(params=['at_least_once', 'exactly_once'])
def guarantee(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_what_becomes_of_events_is_counted(any_log, guarantee):
    """Processed, failed, retried, skipped and dead-lettered, and the checkpoints about it."""
    async with crew_of(any_log, Shop().declare, guarantee=guarantee) as crew:
        peer = await crew.join()
        words = ['a', 'b', 'a', 'once', 'never', 'dead']
        await crew.send('words', *((word, f'"{word}"'.encode()) for word in words))
        await until(lambda: peer.topology.agents['count'].stats.dead_lettered)
        await until(lambda: peer.topology.agents['count'].stats.processed == 4)
        await until(lambda: peer.worker.session and not peer.worker.session.dirty)
        await until(lambda: scraped(peer)['streams_timer_runs_total{timer="tick"}'])
        found = scraped(peer)

    agent = '{agent="count"}'
    assert found[f'streams_processed_total{agent}'] == 4
    assert found[f'streams_failed_total{agent}'] == 3
    assert found[f'streams_retried_total{agent}'] == 1
    assert found[f'streams_skipped_total{agent}'] == 1
    assert found[f'streams_dead_lettered_total{agent}'] == 1
    assert found[f'streams_in_flight{agent}'] == 0
    assert found['streams_connected'] == 1
    assert found['streams_stalled'] == 0
    assert found['streams_tasks{phase="running"}'] == 2
    assert found['streams_tasks{phase="recovering"}'] == 0
    assert 1 <= found['streams_checkpoint_duration_seconds_count'] <= 6
    assert 0 < found['streams_checkpoint_duration_seconds_sum'] < 60
    assert found['streams_checkpoints_failed_total'] == 0
    assert found['streams_late_replies_total'] == 0
    assert found['streams_late_total{table="minutes"}'] == 0


async def test_lag_is_what_is_not_committed(any_log, guarantee):
    """It grows while the agent is busy, and goes to nothing afterwards."""
    shop = Shop()
    async with crew_of(any_log, shop.declare, guarantee=guarantee) as crew:
        peer = await crew.join()
        shop.open.clear()
        await crew.send('words', *((str(n), b'"a"') for n in range(50)))

        def lag() -> float:
            found = scraped(peer)
            return sum(n for name, n in found.items() if name.startswith('streams_lag{'))

        await until(lambda: lag() == 50)
        assert scraped(peer)['streams_in_flight{agent="count"}'] == 2, 'one in each partition'
        shop.open.set()
        await until(lambda: lag() == 0)
        topic = f'{any_log.id}-words'
        assert f'streams_lag{{partition="1",topic="{topic}"}}' in scraped(peer)


async def test_copies_and_recoveries_show_how_much_is_left(any_log):
    """A worker that comes anew reads the changelog, and follows what the other one has."""
    shown: list[dict[str, float]] = []

    class Watch(RestoreListener):
        def on_restore_start(self, table: str, partition: int, start: int, end: int) -> None:
            if table == 'total':
                found = scraped(crew.peers[-1])
                place = f'{{partition="{partition}",table="total"}}'
                shown.append({'left': found[f'streams_recovery_lag{place}'], 'all': end - start})

    def declare(app: Topology) -> None:
        Shop().declare(app)
        app.restore_listeners.append(Watch())

    async with crew_of(any_log, declare, guarantee='at_least_once') as crew:
        first = await crew.join()
        await crew.send('words', *((str(n), b'"%d"' % n) for n in range(20)))
        await until(lambda: first.topology.agents['count'].stats.processed == 20)
        await until(lambda: first.worker.session and not first.worker.session.dirty)
        await crew.leave(first)
        second = await crew.join()
        await until(lambda: len(shown) == 2)
        assert all(each['left'] == each['all'] > 0 for each in shown)
        third = await crew.join()
        await until(lambda: len(third.owns('total')) == len(second.owns('total')) == 1)
        (number,) = second.owns('total')
        standby = f'streams_standby_lag{{partition="{number}",table="total"}}'
        await until(lambda: scraped(third).get(standby) == 0)
        assert standby not in scraped(second)


async def test_late_writes_and_closed_windows_are_counted():
    """By table; the service shows it under its own path."""
    app = service.create_app('shop', raw_args=[])
    streams.setup(app)
    topology = streams.get_streams(app)
    topic = topology.topic('words', partitions=1)
    minutes = topology.Table('minutes', default=int, window=TumblingWindow(60, grace=0))

    @topology.agent(topic)
    async def count(stream):
        async for word in stream:
            minutes[word] += 1

    service.furnish(app)
    async with testing.running(app) as started:
        for second in (0, 61, 10):
            await topic.send(value='a', timestamp=1_700_000_040.0 + second)
        await until(lambda: minutes.late == 1 and minutes.closed == 1)
        found = parse(await (await started.client.get('/shop/_service/metrics')).text())

    assert found['streams_late_total{table="minutes"}'] == 1
    assert found['streams_windows_closed_total{table="minutes"}'] == 1
    assert found['streams_processed_total{agent="count"}'] == 3


async def test_a_worker_without_a_broker_says_so(tmp_path):
    """What was counted is there, and no partition."""
    args = ['--streams-url=kafka://127.0.0.1:9', f'--datadir={tmp_path}']
    app = service.create_app('shop', raw_args=args)
    streams.setup(app)
    service.furnish(app)
    async with testing.running(app) as started:
        text = await (await started.client.get('/_service/metrics')).text()

    found = parse(text)
    assert found['streams_connected'] == 0
    assert not any(name.startswith('streams_tasks') for name in found)
