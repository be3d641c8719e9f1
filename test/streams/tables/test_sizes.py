"""Values that are too large for a changelog fail their event, and nothing else."""

from __future__ import annotations

import pytest

from service_scaffold.streams.driver import drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.windows import SlidingWindow, TumblingWindow
from service_scaffold.transports import headers
from test.streams.several import SharedLog, crew_of, until

SIZES = [('a', 10), ('b', 3_000_000), ('c', 5), ('d', 990_000)]


def declare(app: Topology, **options: object) -> None:
    sizes = app.topic(f'{app.id}-sizes', partitions=1, value_type=int)
    texts = app.Table('texts', default=str, **options)

    @app.agent(sizes)
    async def write(stream):
        async for event in stream.events():
            texts[event.key] = 'x' * event.value


@pytest.mark.parametrize(
    'options',
    [{}, {'ttl': 100}, {'window': TumblingWindow(10)}, {'window': SlidingWindow(2, 2)}],
    ids=str,
)
async def test_a_value_that_is_too_large_is_dead_lettered(options) -> None:
    app = Topology(StreamSettings('shop'))
    declare(app, **options)
    limit = 400_000 if 'Sliding' in str(options) else 990_000  # it keeps them twice
    async with drive(app) as t:
        for key, size in SIZES:
            await t.send('shop-sizes', min(size, limit) if key == 'd' else size, key=key)
        await t.settle()
        texts = app.tables['texts']
        assert [key in texts for key in 'abcd'] == [True, False, True, True]
        (letter,) = t.read('shop-sizes.dlq')
        assert letter.key == 'b'
        assert b'producer_max_request_size' in letter.headers[headers.DEATH_ERROR]


async def test_members_and_keys_count_as_well() -> None:
    app = Topology(StreamSettings('shop'))
    sizes = app.topic('sizes', partitions=1, value_type=int)
    tags = app.SetTable('tags')

    @app.agent(sizes)
    async def write(stream):
        async for size in stream:
            tags['a'].add('x' * size)

    async with drive(app) as t:
        for size in (5, 3_000_000, 6):
            await t.send(sizes, size)
        await t.settle()
        assert {len(member) for member in tags['a']} == {5, 6}
        assert len(t.read('sizes.dlq')) == 1


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
async def test_a_real_log_takes_what_a_table_takes(any_log: SharedLog, guarantee: str) -> None:
    """Nobody has to be told twice: the application does not even begin again."""
    async with crew_of(any_log, declare, guarantee=guarantee) as crew:
        peer = await crew.join()
        session = peer.worker.session
        await crew.send('sizes', *((key, str(size).encode()) for key, size in SIZES))
        texts = peer.topology.tables['texts']
        await until(lambda: len(texts) == 3)
        assert {key: len(text) for key, text in texts.items()} == {'a': 10, 'c': 5, 'd': 990_000}
        assert peer.worker.session is session
