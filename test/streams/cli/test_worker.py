"""`worker`: several on one host."""

from __future__ import annotations

import socket

from test.running import get

SHOP = 'test.streams.cli.shop'
MEMORY = ('--broker', 'memory://')


async def test_several_workers_on_one_host_do_not_clash(start):
    """Nobody has named a port, so the second one takes any."""
    workers = [await start(SHOP, 'worker', *MEMORY) for _ in range(2)]

    urls = [await worker.url() for worker in workers]
    for url in urls:
        assert (await get(f'{url}/_service/live'))[0] == 200
    for worker in workers:
        worker.signal()

    assert len(set(urls)) == 2
    assert [await worker.ended() for worker in workers] == [0, 0]


async def test_a_port_that_was_named_and_is_taken_is_an_error(start):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = str(taken.getsockname()[1])
        worker = await start(SHOP, 'worker', *MEMORY, '--host', '127.0.0.1', '--port', port)

        assert await worker.ended() == 1

    assert port in worker.log
    assert 'Traceback' not in worker.log


async def test_without_a_port_at_all(start):
    worker = await start(SHOP, 'worker', *MEMORY, '--no-web')

    await worker.logged('Started in')
    worker.signal()

    assert await worker.ended() == 0
    assert 'Listening' not in worker.log


async def test_by_the_module(start):
    worker = await start('service_scaffold.streams', '-A', f'{SHOP}:app', 'worker', '--port', '0')

    await worker.url()
    worker.signal()

    assert await worker.ended() == 0


async def test_a_mistake_in_its_options(start):
    worker = await start(SHOP, 'worker', '--prot', '6067')

    assert await worker.ended() == 2
    assert worker.log.endswith('unrecognized arguments: --prot 6067; did you mean --port?\n')
    assert worker.log.count('\n') == 2
