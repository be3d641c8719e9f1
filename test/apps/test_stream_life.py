"""`StreamApp` as a guest: beside other programs on its host, and in the loop of another server."""

from __future__ import annotations

import pytest

from test.apps.programs import program

GUEST = """
    import asyncio, gc, logging, sys, threading, warnings

    from aiohttp import ClientSession, web
    from service_scaffold.apps import StreamApp

    warnings.simplefilter('error')
    logging.basicConfig(level='WARNING')
    id, broker, directory = sys.argv[1:]
    app = StreamApp(
        id, broker=broker, datadir=directory, web_enabled=False, broker_commit_interval=0.1
    )
    handled = []
    seen = app.Table('seen', default=int)

    @app.agent(app.topic(f'{id}.numbers', value_type=int, partitions=2))
    async def count(stream):
        async for number in stream:
            seen[str(number)] += 1
            handled.append(number)
            yield number

    @app.timer(0.2)
    async def tick(): ...

    @app.task
    async def for_ever():
        await asyncio.Event().wait()

    async def host(number):
        asyncio.get_running_loop().slow_callback_duration = 5.0  # busy machines are no fault

        async def ask(request):
            return web.json_response(await count.ask(number, key=str(number)))

        own = web.Application()
        own.router.add_get('/', ask)
        runner = web.AppRunner(own)
        await runner.setup()
        await web.TCPSite(runner, '127.0.0.1', 0).start()
        url = f'http://127.0.0.1:{runner.addresses[0][1]}/'
        before = asyncio.all_tasks()
        for _ in range(2):
            await app.start()
            async with ClientSession() as client, client.get(url) as answer:
                assert await answer.json() == number
            await app.stop()
        assert asyncio.all_tasks() == before
        await runner.cleanup()

    for number in (1, 2):
        asyncio.run(host(number), debug=True)
        gc.collect()
    assert threading.active_count() == 1, threading.enumerate()
    assert handled == [1, 1, 2, 2], handled
    print('clean')
"""


@pytest.mark.parametrize('log', ['memory', 'kafka'])
async def test_in_a_server_of_somebody_else_it_leaves_nothing(request, unique, tmp_path, log):
    """Started and stopped twice in each of two loops: no task, no thread, no warning."""
    broker = 'memory://' if log == 'memory' else request.getfixturevalue('kafka').url
    async with program(GUEST, unique, broker, str(tmp_path)) as guest:
        status = await guest.ended()

    assert (status, guest.output, guest.log) == (0, 'clean\n', '')


WORKER = """
    import sys

    from service_scaffold.apps import StreamApp

    id, broker, directory = sys.argv[1:4]
    app = StreamApp(id, broker=broker, datadir=directory, web_enabled=False)
    numbers = app.topic(f'{id}.numbers', value_type=int, partitions=2)

    @app.agent(numbers)
    async def show(stream):
        async for event in stream.events():
            print(event.partition, flush=True)

    @app.timer(0.1)
    async def fill():
        for partition in (0, 1):
            await numbers.send(value=1, partition=partition)

    sys.argv[1:] = sys.argv[4:]
    app.main()
"""


async def test_two_workers_without_pages_live_on_one_host(kafka, unique, tmp_path):
    """The `worker` command listens nowhere when the application says so."""
    args = (unique, kafka.url, str(tmp_path))
    async with program(WORKER, *args, 'worker') as one, program(WORKER, *args, 'worker') as two:
        for worker in (one, two):
            await worker.printed(r'(?m)^[01]$')
        for worker in (one, two):
            worker.signal()
            assert await worker.ended() == 0
            assert 'Listening' not in worker.log
