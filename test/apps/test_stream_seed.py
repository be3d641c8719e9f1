"""The documentation of Faust's App, pasted, works: offline, on memory and on Kafka."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold.apps import StreamApp
from service_scaffold.streams import AppT
from test.apps.seed_blocks import declare
from test.running import get

LIMIT_S = 60


@pytest.fixture(params=['memory', 'kafka'])
def broker(request) -> str:
    return 'memory://' if request.param == 'memory' else request.getfixturevalue('kafka').url


async def test_the_blocks_run(broker, tmp_path, unique):
    """Programmatic control, as in the last block: start, work, stop."""
    seen: list[object] = []
    blocks = declare(broker, str(tmp_path), unique, seen)
    app = blocks.app

    await app.start()
    try:
        assert app.id == f'{unique}-my-app'
        assert isinstance(app, AppT)
        assert app.loop() is asyncio.get_running_loop()
        url = 'http://{}:{}'.format(*app.address)
        assert await get(f'{url}/health') == (200, '{"status":"healthy"}')
        status, text = await get(f'{url}/orders/7')
        assert (status, text) == (200, '{"id":7,"amount":2.5,"customer":"ann"}')

        await blocks.orders_topic.send(key=1, value=blocks.Order(1, 9.5, 'bob'))
        await app.send(blocks.payments, 'k', {'euros': 3})
        async with asyncio.timeout(LIMIT_S):
            while len(seen) < 2:  # noqa: ASYNC110 - what the blocks do tells nobody
                await asyncio.sleep(0.02)
    finally:
        await app.stop()

    assert {'euros': 3} in seen
    assert any(str(value).startswith('Processing order: ') for value in seen)


async def test_the_timers_and_crontabs_run_offline(tmp_path, unique):
    seen: list[object] = []
    app = declare('memory://', str(tmp_path), unique, seen).app

    async with app.test(start=845.0) as t:
        await t.advance(61)

    assert seen == ['synchronized', 'healthy']


def test_the_declarations_are_known(tmp_path, unique):
    blocks = declare('memory://', str(tmp_path), unique, [])
    app = blocks.app

    assert set(app.commands) == {'hello', 'greet'}
    assert set(app.tables) == {'word-counts', 'user-profiles', 'hourly-counts', 'small'}
    assert set(app.agents) == {'process_orders', 'process_payments'}
    assert blocks.orders_topic.options.partitions == 16
    assert app.config['log_level'] == 'info'
    assert app.settings.topic_partitions == 8


TUNED = {
    'broker_session_timeout': 12.0,
    'broker_heartbeat': 0.5,
    'broker_request_timeout': 9.0,
    'producer_linger': 0.005,
    'producer_max_batch_size': 20_000,
    'producer_max_request_size': 500_000,
    'producer_compression_type': 'gzip',
    'consumer_max_fetch_size': 100_000,
    'consumer_max_poll_records': 10,
    'consumer_connections_max_idle': 60.0,
    'consumer_rebalance_timeout': 8.0,
    'broker_commit_every': 5,
    'broker_commit_interval': 0.3,
}


@pytest.mark.parametrize(
    'options',
    [
        {'processing_guarantee': 'exactly_once'},
        {'consumer_group_instance_id': 'one', 'producer_acks': 1},
        {'processing_guarantee': 'at_most_once', 'stream_publish_on_commit': True},
    ],
    ids=['exactly_once', 'static member', 'at_most_once'],
)
async def test_the_options_of_clients_work(broker, options, tmp_path, unique):
    """Each is taken by the broker's client; ten events come through, and ten after a restart."""
    app = StreamApp(unique, broker=broker, web_port=0, datadir=str(tmp_path), **TUNED, **options)
    orders = app.topic(f'{unique}-orders', partitions=2)
    counts = app.Table('counts', default=int, key_type=str)
    done = asyncio.Event()

    @app.agent(orders)
    async def count(stream):
        async for order in stream:
            counts[order] += 1
            if counts[order] % 10 == 0:
                done.set()

    for _ in range(2):
        done.clear()
        await app.start()
        try:
            for _ in range(10):
                await orders.send(key='a', value='a')
            async with asyncio.timeout(LIMIT_S):
                await done.wait()
        finally:
            await app.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}
