"""Create, furnish and run a service. What `run` promises is tested on real processes."""

import asyncio
import logging
import signal
import socket
import subprocess
import sys
import time
import warnings

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from service_scaffold import features, options, server, service, stopping
from test.running import get, running

LOCAL = ('--host', '127.0.0.1', '--port', '0')


async def respond(request):
    return web.Response()


# create_app


def test_an_app_has_its_options_as_a_plain_dict():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        app = service.create_app('plant', raw_args=['--port', '1234'])

    assert type(app['config']) is dict
    assert app['config'] is app[service.CONFIG]
    assert (app['config']['name'], app['config']['port']) == ('plant', 1234)


def test_a_parser_may_have_arguments_of_its_own():
    parser = service.create_parser('plant')
    parser.add_argument('--interval-s', type=float, default=5)

    app = service.create_app(parser=parser, raw_args=['--interval-s', '2'])

    assert app['config']['interval_s'] == 2


def test_a_name_is_needed():
    with pytest.raises(AssertionError, match='default_name or a parser'):
        service.create_app()


def test_a_default_name_fills_a_parser_without_one():
    app = service.create_app('plant', service.create_parser(), raw_args=[])

    assert app['config']['name'] == 'plant'


def test_a_usage_error_is_status_2(capsys):
    with pytest.raises(SystemExit) as ended:
        service.create_app('plant', raw_args=['--port', 'high'])

    assert ended.value.code == 2
    assert '--port' in capsys.readouterr().err


def test_a_log_file_that_cannot_be_written_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as ended:
        service.create_app('plant', raw_args=['--output', '/nowhere/at/all.log'])

    assert ended.value.code == 2
    assert '/nowhere/at/all.log' in capsys.readouterr().err


async def test_the_least_body_limit_is_a_limit():
    """aiohttp takes 0 for none."""
    app = service.create_app('plant', raw_args=['--max-body-mib', '1e-9'])

    async def read(request):
        return web.Response(body=await request.read())

    app.router.add_post('/', read)
    async with TestClient(TestServer(app)) as client:
        assert (await client.post('/', data=b'two')).status == 413


def test_what_is_declared_secret_is_not_logged(capsys):
    parser = service.create_parser('plant')
    options.add_options(parser, [options.Option('store-key', 'Key', secret=True)])
    service.create_app(parser=parser, raw_args=['--store-key', 'open sesame'])

    logging.getLogger('test').error('opening with open sesame')

    assert 'opening with ***' in capsys.readouterr().err


# furnish


def test_a_second_furnish_raises():
    app = service.create_app('plant', raw_args=[])
    service.furnish(app)

    with pytest.raises(RuntimeError, match='furnished once'):
        service.furnish(app)


def test_furnish_logs_endpoints_features_and_info(caplog):
    class Pump(features.ServiceFeature):
        async def startup(self, app): ...
        async def shutdown(self, app): ...

    app = service.create_app('plant', raw_args=['--info', 'build 7 of main'])
    Pump(app)
    app.router.add_post('/tanks/{tank}', respond)
    with caplog.at_level('INFO'):
        service.furnish(app)

    assert 'build 7 of main' in caplog.text
    assert 'Endpoint POST /plant/tanks/{tank}' in caplog.text
    assert 'Feature Pump' in caplog.text


async def test_hooks_added_by_the_user_find_features_started():
    """And everything works under a runner that is not ours."""
    seen = []
    app = service.create_app('plant', raw_args=[])

    async def on_startup(app):
        seen.append(features.get_lifecycle(app).state)

    app.on_startup.append(on_startup)
    service.furnish(app)
    async with TestClient(TestServer(app)) as client:
        assert (await client.get('/plant/_service/ready')).status == 200

    assert seen == ['running']
    assert features.get_lifecycle(app).state == 'stopped'


def test_an_import_loads_no_client_library():
    code = (
        'import sys, service_scaffold.service as s\n'
        "app = s.create_app('plant', raw_args=[])\n"
        "clients = 'aio_pika aiormq aiokafka aiomqtt paho aiohttp_apispec webargs'.split()\n"
        "print([name for name in [*clients, 'prometheus_client'] if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=30, check=True
    )

    assert found.stdout.strip() == '[]'


# run


async def test_a_service_answers_and_stops_with_status_0():
    async with running('', *LOCAL) as process:
        url = await process.url()
        await process.logged('Started in')
        assert await get(f'{url}/plant/_service/status') == (200, '{"status": "ok"}')

        process.signal(signal.SIGINT)
        assert await process.ended() == 0
        assert 'SIGINT: stopping' in process.log


async def test_hooks_run_in_order_and_in_reverse():
    source = """
        class A(Feature): pass
        class B(Feature): pass
        A(app), B(app)
    """
    async with running(source, *LOCAL) as process:
        await process.logged('Started in')
        process.signal()

        assert await process.ended() == 0
        assert process.output.split('\n')[:-1] == [
            'A startup', 'B startup',
            'B drain', 'A drain',
            'B before_shutdown', 'A before_shutdown',
            'B shutdown', 'A shutdown',
        ]  # fmt: skip


async def test_a_port_that_is_taken_starts_nothing():
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        args = ('--host', '127.0.0.1', '--port', str(port))
        async with running('Feature(app)', *args) as process:
            assert await process.ended() == 1

    assert f'Cannot listen on 127.0.0.1:{port}: Address already in use' in process.log
    assert process.output == ''
    assert 'Listening' not in process.log


async def test_readiness_is_seen_while_features_start():
    """Live at once, ready when started; connections made meanwhile are answered."""
    source = """
        class Slow(Feature):
            async def startup(self, app):
                await asyncio.sleep(1.5)
        Slow(app)
        async def hello(request):
            return web.Response(text='hello')
        app.router.add_get('/hello', hello)
    """
    async with running(source, *LOCAL) as process:
        url = await process.url()
        assert (await get(f'{url}/plant/_service/ready'))[0] == 503
        assert (await get(f'{url}/_service/live'))[0] == 200
        assert (await get(f'{url}/plant/hello'))[0] == 503
        assert 'Started in' not in process.log

        await process.logged('Started in')
        assert (await get(f'{url}/plant/_service/ready'))[0] == 200
        assert await get(f'{url}/plant/hello') == (200, 'hello')


async def test_a_feature_that_does_not_start_is_status_1():
    """Those before it stop, it and those after do not; the traceback is logged once."""
    source = """
        class A(Feature): pass
        class Bad(Feature):
            async def startup(self, app):
                raise ValueError('no water')
        class C(Feature): pass
        A(app), Bad(app), C(app)
    """
    async with running(source, *LOCAL) as process:
        assert await process.ended() == 1

    hooks = process.output.split('\n')[:-1]
    assert (hooks[0], hooks[-1]) == ('A startup', 'A shutdown')
    assert not [line for line in hooks if not line.startswith('A ')]
    assert process.log.count('Traceback') == 1


async def test_what_is_wrong_outside_the_program_stops_the_start_without_a_traceback():
    source = """
        from service_scaffold import events
        events.setup(app)
        events.get_listener(app).subscribe('plant', '#')
    """
    url = 'kafka://joe:secret@localhost?sasl=GSSAPI'
    async with running(source, *LOCAL, '--eventbus-url', url) as process:
        assert await process.ended() == 1

    assert 'The service did not start: The event bus URL asks for ?sasl=GSSAPI' in process.log
    assert 'Traceback' not in process.log
    assert 'secret' not in process.log


async def test_not_ready_with_the_port_open_while_work_drains():
    source = """
        class Worker(Feature):
            async def drain(self, app):
                print('draining', flush=True)
                await asyncio.sleep(1)
        Worker(app)
    """
    async with running(source, *LOCAL) as process:
        url = await process.url()
        await process.logged('Started in')
        process.signal()
        await process.printed('draining')

        assert (await get(f'{url}/_service/ready'))[0] == 503
        assert (await get(f'{url}/_service/live'))[0] == 200
        assert await process.ended() == 0


async def test_the_port_stays_open_for_pre_stop_s():
    async with running('Feature(app)', *LOCAL, '--pre-stop-s', '1') as process:
        url = await process.url()
        await process.logged('Started in')
        process.signal()
        await process.logged('SIGTERM')

        assert (await get(f'{url}/_service/ready'))[0] == 503
        assert 'drain' not in process.output
        assert await process.ended() == 0


SLOW_REQUEST = """
    async def slow(request):
        print('asked', flush=True)
        await asyncio.sleep({seconds})
        return web.Response(text='done')
    app.router.add_get('/slow', slow)
    Feature(app)
"""


async def test_requests_finish_before_features_shut_down():
    async with running(SLOW_REQUEST.format(seconds=1), *LOCAL) as process:
        url = await process.url()
        await process.logged('Started in')
        asked = asyncio.ensure_future(get(f'{url}/plant/slow'))
        await process.printed('asked')
        process.signal()

        assert await asked == (200, 'done')
        assert await process.ended() == 0


async def test_a_request_that_does_not_finish_is_status_1_within_the_budget():
    args = (*LOCAL, '--shutdown-timeout-s', '2')
    async with running(SLOW_REQUEST.format(seconds=60), *args) as process:
        url = await process.url()
        await process.logged('Started in')
        asked = asyncio.ensure_future(get(f'{url}/plant/slow'))
        await process.printed('asked')
        process.signal()
        begun = time.monotonic()

        assert await process.ended() == 1
        assert time.monotonic() - begun < 3.5
        assert 'Feature shutdown' in process.output
    await asyncio.wait({asked})
    assert asked.exception() is not None


async def test_an_idle_connection_does_not_hold_the_stop():
    async with running('', *LOCAL) as process:
        host, port = (await process.url()).removeprefix('http://').split(':')
        await process.logged('Started in')
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b'GET /_service/live HTTP/1.1\r\nHost: x\r\n\r\n')
        await reader.readuntil(b'{"live": true}')
        process.signal()
        begun = time.monotonic()

        assert await process.ended() == 0
        assert time.monotonic() - begun < 1.5
        writer.close()


@pytest.mark.parametrize('hook', ['drain', 'before_shutdown', 'shutdown'])
@pytest.mark.parametrize('body', ["raise ValueError('stuck')", 'await asyncio.sleep(60)'])
async def test_a_stop_hook_that_raises_or_hangs_is_status_1(hook, body):
    """The features made before it shut down all the same."""
    source = f"""
        class Bad(Feature):
            async def {hook}(self, app):
                {body}
        Feature(app), Bad(app)
    """
    async with running(source, *LOCAL, '--shutdown-timeout-s', '1.5') as process:
        await process.logged('Started in')
        process.signal()

        assert await process.ended() == 1
        assert 'Feature shutdown' in process.output


async def test_a_blocked_loop_ends_with_the_budget():
    source = """
        class Bad(Feature):
            async def drain(self, app):
                time.sleep(60)
        Bad(app)
    """
    async with running(source, *LOCAL, '--shutdown-timeout-s', '0.5') as process:
        await process.logged('Started in')
        process.signal()
        begun = time.monotonic()

        assert await process.ended() == 1
        assert time.monotonic() - begun < 3


@pytest.mark.parametrize('block', ['time.sleep(60)', 'exec("while True: pass")'])
async def test_a_loop_that_is_blocked_when_the_signal_comes_ends_with_the_budget(block):
    """Also one that never hears of it."""
    source = f"""
        class Bad(Feature):
            async def startup(self, app):
                asyncio.get_running_loop().call_later(0.2, self.block)

            def block(self):
                print('blocking', flush=True)
                {block}
        Bad(app)
    """
    async with running(source, *LOCAL, '--shutdown-timeout-s', '0.5') as process:
        await process.printed('blocking')
        process.signal()
        begun = time.monotonic()

        assert await process.ended() == 1
        assert time.monotonic() - begun < 5
        assert 'Not stopped within 3.5 s' in process.log


async def test_a_second_signal_exits_at_once():
    source = """
        class Bad(Feature):
            async def drain(self, app):
                print('draining', flush=True)
                await asyncio.sleep(60)
        Bad(app)
    """
    async with running(source, *LOCAL) as process:
        await process.logged('Started in')
        process.signal()
        await process.printed('draining')
        await asyncio.sleep(2 * stopping.ECHO_S)
        process.signal()

        assert await process.ended() == 1
        assert 'SIGTERM again' in process.log


async def test_a_signal_that_comes_twice_at_once_is_one():
    """A tool that signals a process and its group must not cut the stop short."""
    async with running('', *LOCAL) as process:
        await process.logged('Started in')
        process.signal()
        process.signal()

        assert await process.ended() == 0


async def test_a_signal_while_starting_rolls_back():
    source = """
        class Slow(Feature):
            async def startup(self, app):
                print('starting', flush=True)
                await asyncio.sleep(60)
        Feature(app), Slow(app)
    """
    async with running(source, *LOCAL) as process:
        await process.printed('starting')
        process.signal()

        assert await process.ended() == 0
        assert 'Feature shutdown' in process.output
        assert 'Slow shutdown' not in process.output


async def test_a_user_hook_that_fails_stops_the_features():
    """aiohttp itself would leave them running."""
    source = """
        Feature(app)
        async def bad(app):
            raise ValueError('no water')
        app.on_startup.append(bad)
    """
    async with running(source, *LOCAL) as process:
        assert await process.ended() == 1
        assert 'Feature shutdown' in process.output
        assert process.log.count('Traceback') == 1


async def test_a_service_without_http():
    """Features run, nothing listens; whoever serves may stop it."""
    app = service.create_app('plant', raw_args=[])
    stop = stopping.StopRequest()
    stop.set()
    service.furnish(app)

    assert await server.serve(app, listen_http=False, stop=stop) == 0
    assert features.get_lifecycle(app).state in ('created', 'stopped')


async def test_a_service_without_http_takes_no_port(caplog):
    app = service.create_app('plant', raw_args=[])
    service.furnish(app)
    stop = stopping.StopRequest()

    async def on_startup(app: web.Application) -> None:
        stop.set()

    app.on_startup.append(on_startup)
    with caplog.at_level('INFO'):
        assert await asyncio.wait_for(server.serve(app, listen_http=False, stop=stop), 5) == 0

    assert 'Listening' not in caplog.text
