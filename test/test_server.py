"""The life of the process, where it ends otherwise than by one signal and a clean stop."""

import asyncio
import socket
import time

import pytest
from aiohttp import web

from service_scaffold import features, server, service, stopping
from test.running import running

LOCAL = ('--host', '127.0.0.1', '--port', '0')


class Hooks(features.ServiceFeature):
    """Notes which of its hooks have run."""

    def __init__(self, app: web.Application) -> None:
        super().__init__(app)
        self.seen: list[str] = []
        self.started = asyncio.Event()

    async def startup(self, app):
        self.seen.append('startup')
        self.started.set()

    async def before_shutdown(self, app):
        self.seen.append('before_shutdown')

    async def shutdown(self, app):
        self.seen.append('shutdown')


class Endless(Hooks):
    async def startup(self, app):
        await super().startup(app)
        await asyncio.Event().wait()


async def test_why_a_feature_did_not_start_is_said_once_and_names_it():
    source = """
        class Pump(Feature):
            async def startup(self, app):
                raise ValueError('no water')
        Pump(app)
    """
    async with running(source, *LOCAL) as process:
        assert await process.ended() == 1

    lines = [line for line in process.log.splitlines() if ' ERROR ' in line or ' CRITICAL ' in line]
    assert len(lines) == 1
    assert lines[0].endswith('The service did not start: no water (while starting Pump)')


async def test_cancelled_it_stops_in_order():
    app = service.create_app('plant', raw_args=LOCAL)
    hooks = Hooks(app)
    service.furnish(app)
    serving = asyncio.ensure_future(server.serve(app))
    await hooks.started.wait()

    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(serving, 5)

    assert hooks.seen == ['startup', 'before_shutdown', 'shutdown']


async def test_cancelled_while_starting_it_rolls_back():
    app = service.create_app('plant', raw_args=LOCAL)
    first, endless = Hooks(app), Endless(app)
    service.furnish(app)
    serving = asyncio.ensure_future(server.serve(app))
    await endless.started.wait()

    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(serving, 5)

    assert first.seen == ['startup', 'before_shutdown', 'shutdown']
    assert endless.seen == ['startup']
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_failed_start_closes_features_before_what_they_stand_on():
    """aiohttp enters `cleanup_ctx` before any feature starts."""
    source = """
        Feature(app)
        async def pool(app):
            yield
            print('pool closed', flush=True)
        app.cleanup_ctx.append(pool)
        async def bad(app):
            raise ValueError('no water')
        app.on_startup.append(bad)
    """
    async with running(source, *LOCAL) as process:
        assert await process.ended() == 1

    assert process.output.split('\n')[-3:-1] == ['Feature shutdown', 'pool closed']


@pytest.mark.parametrize(
    'start',
    [
        'import threading; threading.Thread(target=time.sleep, args=(60,)).start()',
        'asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)',
        'from concurrent.futures import ThreadPoolExecutor as Pool; Pool().submit(time.sleep, 60)',
    ],
    ids=['thread', 'executor of the loop', 'executor of the user'],
)
async def test_a_thread_that_does_not_end_does_not_hold_the_exit(start):
    """The budget is for everything up to the exit."""
    source = f"""
        class Reader(Feature):
            async def startup(self, app):
                {start}
        Reader(app)
    """
    async with running(source, *LOCAL, '--shutdown-timeout-s', '0.5') as process:
        await process.logged('Started in')
        process.signal()
        begun = time.monotonic()

        assert await process.ended() == 1
        assert time.monotonic() - begun < 3
        assert 'Not stopped within 1.5 s' in process.log


async def test_a_program_may_go_on_after_run():
    """The guard of the stop is none of what comes after it."""
    source = """
        class Quick(Feature):
            async def startup(self, app):
                import os
                asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), 15)
        Quick(app)
        service.furnish(app)
        service.run(app)
        time.sleep(1.5)
        print('went on', flush=True)
        raise SystemExit(0)
    """
    async with running(source, *LOCAL, '--shutdown-timeout-s', '0.1') as process:
        assert await process.ended() == 0
        assert 'went on' in process.output


async def test_one_signal_stops_every_service_of_the_process():
    source = """
        import os
        from service_scaffold import server
        Feature(app)
        other = service.create_app('other', raw_args=['--host', '127.0.0.1', '--port', '0'])
        class Other(Feature): pass
        Other(other)
        service.furnish(app)
        service.furnish(other)
        async def main():
            asyncio.get_running_loop().call_later(0.3, os.kill, os.getpid(), 15)
            print(await asyncio.gather(server.serve(app), server.serve(other)), flush=True)
            raise SystemExit(0)
        asyncio.run(main())
    """
    async with running(source, *LOCAL) as process:
        assert await process.ended() == 0

    assert {'Feature shutdown', 'Other shutdown', '[0, 0]'} <= set(process.output.split('\n'))


async def test_a_hook_of_the_user_that_hangs_is_told_so():
    source = """
        async def hang(app):
            await asyncio.sleep(60)
        app.on_cleanup.append(hang)
    """
    async with running(source, *LOCAL, '--shutdown-timeout-s', '0.2') as process:
        await process.logged('Started in')
        process.signal()

        assert await process.ended() == 1
    assert 'on_shutdown or on_cleanup did not end within' in process.log
    assert 'Traceback' not in process.log


class Doomed(Hooks):
    """Cannot go on, soon after its start."""

    async def startup(self, app):
        await super().startup(app)
        error = ValueError('the well is dry')
        asyncio.get_running_loop().call_soon(features.get_lifecycle(app).fail, error)


async def test_a_feature_that_cannot_go_on_stops_the_service_in_order():
    app = service.create_app('plant', raw_args=LOCAL)
    hooks, doomed = Hooks(app), Doomed(app)
    service.furnish(app)

    status = await asyncio.wait_for(server.serve(app), 5)

    assert status == 1
    assert hooks.seen == doomed.seen == ['startup', 'before_shutdown', 'shutdown']
    assert str(features.get_lifecycle(app).failure) == 'the well is dry'


async def test_another_port_is_taken_only_when_asked_for():
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        app = service.create_app('plant', raw_args=['--host', '127.0.0.1', '--port', str(port)])
        hooks = Hooks(app)
        service.furnish(app)
        stop = stopping.StopRequest()

        assert await server.serve(app, stop=stop) == 1
        assert isinstance(features.get_lifecycle(app).failure, OSError)
        assert hooks.seen == []

        assert await server.serve(app, stop=stop, any_port=True, on_started=stop.set) == 0
        assert hooks.seen == ['startup', 'before_shutdown', 'shutdown']
