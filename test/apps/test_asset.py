"""`AssetApp`: an application that is an asset."""

from __future__ import annotations

import asyncio
import logging
import sys
import textwrap
import threading
import time
from typing import Any

import pytest

from service_scaffold import assets, features
from service_scaffold.apps import AssetApp
from test.events.conftest import until


class Mill(AssetApp):
    """A machine with a sensor, a mode, and one method."""

    temperature = assets.sample(tag='Temp')
    mode = assets.event('IDLE', tag='Mode')
    stopped = 0

    @assets.method(description='Move the table')
    async def move(self, x: float, y: float) -> str:
        self.mode = 'RUN'
        return f'{x}/{y}'

    async def async_main_loop(self) -> None:
        await asyncio.Event().wait()

    def app_event_loop_stopped(self) -> None:
        self.stopped += 1


class Blocking(AssetApp):
    """Works in a thread."""

    count = assets.sample(0)

    def main_loop(self) -> None:
        while not self.stopping.is_set():
            self.sync.set('count', self.count.value + 1)
            self.sleep(0.01)


def make(kind: type[AssetApp], name: str = 'mill-1', **keywords: Any) -> Any:
    return kind(name, host='127.0.0.1', port=0, test_mode=True, **keywords)


async def test_it_is_available_when_it_has_started_and_not_when_it_has_stopped() -> None:
    mill = make(Mill)
    await mill.start()
    assert mill.avail.value == assets.AVAILABLE
    assert (mill.mode.value, mill.mode.tag, mill.mode.quality) == ('IDLE', 'Mode', 'good')
    assert mill.temperature.value == assets.UNAVAILABLE
    mill.temperature = 21.5
    assert mill.temperature.value == 21.5
    await mill.stop()
    assert mill.avail.value == assets.UNAVAILABLE
    assert mill.stopped == 1


async def test_it_may_be_started_and_stopped_again() -> None:
    mill = make(Mill)
    for _ in range(2):
        await mill.start()
        assert mill.avail.value == assets.AVAILABLE
        await mill.stop()
    assert mill.stopped == 2


async def test_its_methods_are_called_by_others() -> None:
    mill = make(Mill)
    await mill.start()
    try:
        proxy = await mill.open('mill-1')
        assert await proxy.request('move', x=1, y=2) == '1.0/2.0'
        assert mill.mode.value == 'RUN'
        assert proxy['application_manufacturer'].value == 'OpenFactory'
        assert proxy['application_license'].tag == 'Application.License'
    finally:
        await mill.stop()


async def test_a_main_loop_in_a_thread_sets_attributes_and_ends_with_the_application() -> None:
    app = make(Blocking)
    await app.start()
    await until(lambda: app.count.value > 3)
    await app.stop()
    assert app.stopping.is_set()


@pytest.mark.parametrize('blocking', [True, False])
async def test_a_loop_that_raises_is_logged_once_and_ends_with_status_1(
    blocking: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: AssetApp) -> None:
        raise ZeroDivisionError('too fast')

    async def fail_async(self: AssetApp) -> None:
        raise ZeroDivisionError('too fast')

    name = 'main_loop' if blocking else 'async_main_loop'
    app = make(type('Failing', (AssetApp,), {name: fail if blocking else fail_async}))
    assert await app.async_run() == 1
    assert sum('main loop; stopping' in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(('code', 'status'), [(None, 0), (0, 0), (3, 1)])
@pytest.mark.parametrize('loop', ['main_loop', 'async_main_loop'])
async def test_a_loop_that_exits_ends_the_application_in_order(
    loop: str, code: int | None, status: int
) -> None:
    def leave(self: AssetApp) -> None:
        sys.exit(code)

    async def leave_async(self: AssetApp) -> None:
        sys.exit(code)

    body = {loop: leave if loop == 'main_loop' else leave_async}
    app = make(type('Leaving', (AssetApp,), body))
    assert await app.async_run() == status
    assert app.avail.value == assets.UNAVAILABLE


async def test_a_loop_that_returns_ends_with_status_0() -> None:
    async def end(self: AssetApp) -> None:
        return None

    app = make(type('Ending', (AssetApp,), {'async_main_loop': end}))
    assert await app.async_run() == 0


async def test_without_a_loop_nothing_starts() -> None:
    with pytest.raises(NotImplementedError, match='must override main_loop or async_main_loop'):
        await make(AssetApp).async_run()


def test_two_loops_are_refused() -> None:
    both = type('Both', (Blocking,), {'async_main_loop': Mill.async_main_loop})
    with pytest.raises(TypeError, match='Both overrides main_loop and async_main_loop'):
        make(both)


@pytest.mark.parametrize('name', ['start', 'stop', 'run', 'set', 'open', 'sleep'])
async def test_a_method_does_not_take_the_place_of_what_the_application_needs(name: str) -> None:
    async def act(self: AssetApp) -> str:
        return 'done'

    act.__name__ = name
    with pytest.raises(TypeError, match=rf"Shadow\.{name} would .*method\(name='{name}'\)"):
        make(type('Shadow', (Mill,), {name: assets.method(act)}))
    act.__name__ = 'act'
    mill = make(type('Fine', (Mill,), {'act': assets.method(name=name)(act)}))
    await mill.start()
    proxy = await mill.open('mill-1')
    assert await proxy.request(name) == 'done'
    await mill.stop()


@pytest.mark.parametrize('name', ['storage', 'logger', 'asset', 'avail', 'config', '_loop'])
def test_an_attribute_does_not_either(name: str) -> None:
    with pytest.raises((TypeError, RuntimeError), match=name):
        make(type('Shadow', (Mill,), {name: assets.event('x')}))


def test_what_it_shows_is_taken_from_the_environment_when_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert make(Mill).APPLICATION_VERSION == 'latest'
    monkeypatch.setenv('APPLICATION_VERSION', '2.1')
    assert make(Mill).APPLICATION_VERSION == '2.1'
    own = type('Own', (Mill,), {'APPLICATION_VERSION': '3'})
    assert make(own).APPLICATION_VERSION == '3'


def test_a_replica_has_its_number_in_its_id(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('SWARM_REPLICAS', '3')
    monkeypatch.setenv('SWARM_TASK_SLOT', '2')
    mill = make(Mill)
    assert (mill.asset.id, mill.config['name']) == ('mill-1-2', 'mill-1')
    monkeypatch.delenv('SWARM_TASK_SLOT')
    with pytest.raises(SystemExit):
        make(Mill)
    assert 'SWARM_REPLICAS without SWARM_TASK_SLOT' in capsys.readouterr().err


def test_the_id_of_the_platform_comes_before_that_of_the_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv('APP_UUID', 'from-the-platform')
    assert make(Mill).asset.id == 'from-the-platform'


async def test_its_logger_puts_the_id_in_front(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        make(Mill).logger.info('Counter: %d', 1)
    assert caplog.messages == ['[mill-1] Counter: 1']


def test_its_storage_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make(Mill).storage is None
    monkeypatch.setenv('STORAGE', '{"type": "memory"}')
    mill = make(Mill)
    with mill.storage.open('notes/today.txt', 'w') as file:
        file.write('all is well')
    assert mill.storage.listdir('notes') == ['today.txt']
    monkeypatch.setenv('STORAGE', '{"notes": {"type": "memory"}, "maps": {"type": "memory"}}')
    assert list(make(Mill).storages) == ['notes', 'maps']


def test_a_wrong_storage_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('STORAGE', '{"type": "tape"}')
    with pytest.raises(SystemExit) as caught:
        make(Mill)
    assert caught.value.code == 2
    assert 'STORAGE' in capsys.readouterr().err


async def test_flags_count_though_they_are_read_when_everything_has_been_made() -> None:
    mill = Mill('mill-1', host='127.0.0.1', port=0)
    mill.mode = 'EARLY'
    flags = ['--eventbus-url', 'memory://elsewhere', '--replica', '7', '--port', '0']
    mill.read_arguments([*flags, '--application-version', '9'])
    await mill.start()
    try:
        assert str(assets.get_assets(mill.application)).startswith(
            '<AssetsFeature memory://elsewhere'
        )
        assert mill.asset.id == 'mill-1-7'
        assert mill.asset['application_version'].value == '9'
        assert mill.mode.value == 'EARLY'
    finally:
        await mill.stop()


async def test_what_is_assigned_while_it_starts_is_not_overtaken_by_what_was_before() -> None:
    mill = make(Mill)
    mill.temperature = 1
    mill.mode = 'EARLY'
    starting = asyncio.ensure_future(mill.start())
    while not mill.asset.writer.epoch:  # noqa: ASYNC110  # which is soon over
        await asyncio.sleep(0)
    mill.temperature = 2
    await starting
    assert (mill.temperature.value, mill.mode.value) == (2, 'EARLY')
    proxy = await mill.open('mill-1')
    await proxy.wait_for('temperature', lambda value: value == 2, timeout_s=5)
    await mill.stop()
    mill.temperature = 3
    await mill.start()
    assert mill.temperature.value == 3
    await mill.stop()


async def test_threads_assign_before_during_and_after_its_life() -> None:
    mill = make(Mill)
    ended = threading.Event()
    count = 0

    def work() -> None:
        nonlocal count
        while not ended.is_set():
            count += 1
            mill.temperature = count
            time.sleep(0.0005)

    working = asyncio.ensure_future(asyncio.to_thread(work))
    for _ in range(3):
        await asyncio.sleep(0.01)
        await mill.start()
        proxy = await mill.open('mill-1')
        least = count
        await proxy.wait_for('temperature', lambda value, least=least: value > least, timeout_s=5)
        await mill.stop()
    ended.set()
    await working


@pytest.mark.parametrize('loop', ['main_loop', 'async_main_loop'])
async def test_a_newer_owner_does_not_end_a_loop_that_assigns(loop: str, unique: str) -> None:
    rounds = 0

    def work(self: Any) -> None:
        nonlocal rounds
        while not self.stopping.is_set():
            rounds += 1
            self.temperature = rounds
            self.sleep(0.005)

    async def work_async(self: Any) -> None:
        nonlocal rounds
        while True:
            rounds += 1
            self.temperature = rounds
            await asyncio.sleep(0.005)

    bus = {'host': '127.0.0.1', 'port': 0, 'eventbus_url': f'memory://{unique}'}
    body = {loop: work if loop == 'main_loop' else work_async, 'temperature': assets.sample()}
    older: Any = type('Older', (AssetApp,), body)('mill-1', **bus)
    newer: Any = Mill('mill-1', **bus)
    await older.start()
    await newer.start()
    await until(lambda: older.asset.fenced)
    newer.temperature = -1
    least = rounds
    await until(lambda: rounds > least + 3)
    with pytest.raises(assets.Fenced):
        await older.set('temperature', 5)
    assert newer.temperature.value == -1
    assert not features.get_lifecycle(older.application).well
    assert features.get_lifecycle(newer.application).well
    await older.stop()
    assert newer.avail.value == assets.AVAILABLE
    await newer.stop()


async def test_its_handler_of_signals_stops_it_from_any_thread() -> None:
    mill = make(Mill)
    running = asyncio.ensure_future(mill.async_run())
    await until(lambda: mill.avail.value == assets.AVAILABLE)
    await asyncio.to_thread(mill.signal_handler, 15, None)
    assert await asyncio.wait_for(running, 10) == 0
    assert mill.stopped == 1


async def test_the_last_hook_may_be_async_and_its_failure_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def last(self: Any) -> None:
        await asyncio.sleep(0)
        assert self.avail.value == assets.UNAVAILABLE
        raise ZeroDivisionError('in the last hook')

    mill = make(type('Last', (Mill,), {'app_event_loop_stopped': last}))
    await mill.start()
    await mill.stop()
    assert 'ZeroDivisionError: in the last hook' in caplog.text


async def test_its_banner_may_be_its_own_and_comes_before_anything(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def banner(self: Any) -> None:
        print('Hello from', self.asset.id, self.avail.value)

    mill = make(type('Polite', (Mill,), {'welcome_banner': banner}))
    await mill.start()
    await mill.stop()
    assert capsys.readouterr().out == 'Hello from mill-1 UNAVAILABLE\n'


async def test_a_thread_that_does_not_end_is_left_behind_and_does_no_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended = threading.Event()

    def work(self: Any) -> None:
        while not ended.wait(0.01):
            self.temperature = 1

    keywords = {'shutdown_timeout_s': 2}
    mill = make(
        type('Stubborn', (AssetApp,), {'main_loop': work, 'temperature': assets.sample()}),
        **keywords,
    )
    await mill.start()
    await mill.stop()
    ended.set()
    assert 'main_loop has not ended within' in caplog.text


async def test_without_a_bus_it_starts_is_not_ready_and_stops_at_once() -> None:
    mill = Mill('mill-1', host='127.0.0.1', port=0, eventbus_url='mqtt://127.0.0.1:9')
    running = asyncio.ensure_future(mill.async_run())
    await until(lambda: mill.address is not None)
    lifecycle = features.get_lifecycle(mill.application)
    await until(lambda: lifecycle.state == 'running')
    assert not lifecycle.ready
    mill.temperature = 20
    assert mill.temperature.value == 20
    began = time.monotonic()
    mill.signal_handler(15, None)
    assert await asyncio.wait_for(running, 10) == 0
    assert time.monotonic() - began < 3


async def test_a_program_with_a_method_that_hangs_ends_in_time() -> None:
    source = """
        import threading
        from service_scaffold import assets
        from service_scaffold.apps import AssetApp

        class Mill(AssetApp):
            @assets.method
            def hang(self) -> None:
                print('hanging', flush=True)
                threading.Event().wait()

            async def async_main_loop(self) -> None:
                mill = await self.open('mill-1')
                await mill.request('hang')

        Mill('mill-1', host='127.0.0.1', port=0, test_mode=True, shutdown_timeout_s=2).run([])
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, '-c', textwrap.dedent(source), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            while b'hanging' not in await process.stdout.readline():
                pass
            began = time.monotonic()
            process.terminate()
            await process.wait()
        assert time.monotonic() - began < 6
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
