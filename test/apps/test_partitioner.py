"""`producer_partitioner`: somebody's own way from keys to partitions, kept to by everything."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from service_scaffold import errors
from service_scaffold.apps.stream import StreamApp
from service_scaffold.streams import Record


def by_length(key: bytes, partitions: list[int], available: list[int]) -> int:
    """Choose as clients of Kafka in Python let one choose."""
    return partitions[len(key) % len(partitions)]


class Order(Record):
    account: str


def shop(id: str, **options: object) -> tuple[StreamApp, dict[str, int]]:
    """Return an application that counts by another key, and where each key was handled."""
    app = StreamApp(id, producer_partitioner=by_length, **options)
    orders = app.topic(f'{id}.orders', value_type=Order, partitions=3)
    counts = app.Table('counts', default=int)
    handled: dict[str, int] = {}

    @app.agent(orders)
    async def count(stream):
        async for event in stream.group_by(Order.account).events():
            counts[event.key] += 1
            handled[event.key] = event.partition

    @app.page('/counts/{account}')
    @app.table_route(counts, match_info='account')
    async def show(web, request, account):
        return web.json(counts[account])

    return app, handled


ACCOUNTS = ['a', 'bb', 'ccc', 'dddd']
PLACES = {account: len(account) % 3 for account in ACCOUNTS}


async def test_offline():
    app, handled = shop('shop')
    async with app.test() as t:
        for account in ACCOUNTS:
            await t.send('shop.orders', Order(account), key='x' * 5)
        await t.settle()

        assert handled == PLACES
        assert {event.partition for event in t.read('shop.orders')} == {2}
        counts = app.tables['counts']
        assert {account: counts.partition_of(account) for account in ACCOUNTS} == PLACES
        assert [counts[account] for account in ACCOUNTS] == [1, 1, 1, 1]


@pytest.mark.parametrize('log', ['memory', 'kafka'])
@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
async def test_on_a_log(request, unique, tmp_path, log, guarantee):
    broker = 'memory://' if log == 'memory' else request.getfixturevalue('kafka').url
    app, handled = shop(
        unique,
        broker=broker,
        datadir=str(tmp_path),
        web_port=0,
        broker_commit_interval=0.1,
        processing_guarantee=guarantee,
    )
    await app.start()
    try:
        for account in ACCOUNTS:
            await app.send(f'{unique}.orders', 'key', Order(account))
        host, port = app.address
        async with asyncio.timeout(20), aiohttp.ClientSession(f'http://{host}:{port}') as client:
            for account in ACCOUNTS:
                found = 0
                while found != 1:
                    async with client.get(f'/counts/{account}') as answer:
                        found = await answer.json()
    finally:
        await app.stop()
    assert handled == PLACES


def test_by_name():
    app = StreamApp('shop', producer_partitioner='test.apps.test_partitioner:by_length')
    assert app.settings.partitioner(b'aaaa', 3) == 1
    with pytest.raises(errors.ConfigError, match='nothing is found'):
        StreamApp('shop', producer_partitioner='no.such:thing')
    with pytest.raises(errors.ConfigError, match='no function'):
        StreamApp('shop', producer_partitioner='os:sep')
