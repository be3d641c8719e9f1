"""The documentation of OpenFactory's apps, pasted, works: in memory and on a broker.

And each row of `docs/coming-from-openfactory.md` that is not shown by another test.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from service_scaffold import assets, service
from service_scaffold.apps import AssetApp, WebAssetApp
from service_scaffold.testing import running
from test.apps import asset_blocks as blocks
from test.apps.programs import program
from test.events.conftest import until
from test.running import Process, get


@pytest.fixture(params=['memory', 'mosquitto'])
def url(request: pytest.FixtureRequest, unique: str) -> str:
    if request.param == 'memory':
        return f'memory://{unique}'
    found: str = request.getfixturevalue(request.param).url
    return found


@pytest.fixture
def paste(url: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a block as a program; gives the process, and its URL."""
    (tmp_path / 'routes').mkdir()
    (tmp_path / 'routes' / 'root.py').write_text(blocks.ROOT_MODULE)
    paths = [str(tmp_path), str(Path(__file__).parents[2])]
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(paths))
    monkeypatch.setenv('PORT', '0')
    monkeypatch.setenv('SERVICE_HOST', '127.0.0.1')

    @asynccontextmanager
    async def run(source: str) -> AsyncIterator[tuple[Process, str]]:
        text = source.replace('NAME', unique).replace('"URL"', repr(url))
        async with program(text) as process:
            base = await process.url()
            async with asyncio.timeout(20):
                while (await get(f'{base}/_service/ready'))[0] != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            yield process, base
            process.signal()
            assert await process.ended() == 0, process.log

    return run


@asynccontextmanager
async def watcher(url: str) -> AsyncIterator[web.Application]:
    """Another service on the bus."""
    app = service.create_app('watcher', raw_args=['--eventbus-url', url])
    assets.setup(app)
    async with running(app):
        yield app


async def test_the_block_of_the_app_runs_counts_and_stops(
    paste: Any, url: str, unique: str
) -> None:
    """As it stands it never looks whether it shall end; so it is left behind, with a warning."""
    async with paste(blocks.DEMO) as (process, base):
        await process.logged(rf"\[{unique}\] I don't do anything useful in this example\.")
        await process.logged(rf'\[{unique}\] Counter: 2')
        _, text = await get(f'{base}/{unique}/assets/{unique}/application_version')
        assert json.loads(text)['value'] == 'latest'
    assert 'the event loop has stopped' in process.output
    assert 'let it look at self.stopping' in process.log
    if url.startswith('mqtt'):
        async with watcher(url) as app:
            seen = await assets.open(app, unique)
            assert not seen.available
            assert seen['application_license'].value == 'BSD-3-Clause license'


async def test_the_block_with_inline_routes_runs(paste: Any, url: str, unique: str) -> None:
    async with paste(blocks.INLINE_ROUTES) as (process, base):
        assert json.loads((await get(f'{base}/'))[1]) == {'status': 'idle'}
        await process.logged('Background task running')
        if url.startswith('mqtt'):
            async with watcher(url) as app:
                demo = await assets.open(app, unique)
                assert (demo['status'].kind, demo['status'].tag) == ('event', 'App.Status')
                assert await demo.request('move_axis', x=1, y=2.5) is None
            await process.logged(rf'\[{unique}\] Move to 1\.0,2\.5')


async def test_the_block_with_blueprints_runs(paste: Any) -> None:
    async with paste(blocks.BLUEPRINTS) as (_, base):
        assert json.loads((await get(f'{base}/'))[1]) == {'availability': 'AVAILABLE'}


async def test_the_block_with_a_factory_runs(paste: Any) -> None:
    async with paste(blocks.FACTORY) as (_, base):
        assert json.loads((await get(f'{base}/'))[1]) == {'message': 'Hello Flask'}


# The rows


class Machine(AssetApp):
    """What the rows speak of."""

    status = assets.event('idle', tag='App.Status')
    speed = assets.sample(1.5, tag='App.Speed')
    spindle = assets.condition('NORMAL', tag='App.Spindle')

    @assets.method(description='Move axis')
    def move(self, x: float) -> float:
        return 2 * x

    async def async_main_loop(self) -> None:
        await asyncio.Event().wait()


@pytest.fixture
async def machine(url: str, unique: str) -> AsyncIterator[Machine]:
    app = Machine(unique, eventbus_url=url, host='127.0.0.1', port=0)
    await app.start()
    yield app
    await app.stop()


async def test_rows_of_records_and_kinds(machine: Machine) -> None:
    seen = await machine.open(machine.asset.id)
    one = seen['speed']
    assert (one.id, one.value, one.kind, one.tag) == ('speed', 1.5, 'sample', 'App.Speed')
    assert one.quality == 'good'
    assert one.timestamp > 1_600_000_000
    assert set(seen.attributes('sample')) == {'speed'}
    assert set(seen.attributes('event')) == {
        'status',
        'application_version',
        'application_manufacturer',
        'application_license',
    }
    assert set(seen.attributes('condition')) == {'spindle'}
    assert set(seen.attributes('method')) == {'move'}
    assert 'avail' in seen.attributes('system')
    assert set(seen.attributes()) > {'speed', 'status', 'spindle', 'move', 'avail'}


async def test_rows_of_setting_and_following(machine: Machine) -> None:
    seen = await machine.open(machine.asset.id)
    values: dict[str, list[Any]] = {'one': [], 'kind': [], 'all': []}
    handles = [
        seen.subscribe(lambda one: values['one'].append(one.value), attribute='status'),
        seen.subscribe(lambda one: values['kind'].append(one.value), kind='sample'),
        seen.subscribe(lambda one: values['all'].append(one.value)),
    ]
    machine.status = 'busy'
    assert machine.status.value == 'busy'
    assert await seen.wait_for('status', lambda value: value == 'busy', timeout_s=10) == 'busy'
    await machine.set('status', 'done')
    await machine.set('added', 'text', kind='event', tag='App.Added')
    assert (machine.asset['added'].kind, machine.asset['added'].tag) == ('event', 'App.Added')
    await machine.set('speed', 2.5)
    await until(
        lambda: (
            values == {'one': ['busy', 'done'], 'kind': [2.5], 'all': ['busy', 'done', 'text', 2.5]}
        )
    )
    for handle in handles:
        handle.close()
    await machine.set('status', 'unseen')
    await seen.close()
    assert values['one'] == ['busy', 'done']


async def test_rows_of_methods_and_references(machine: Machine, unique: str) -> None:
    seen = await machine.open(machine.asset.id)
    assert await seen.request('move', x=1.5) == 3.0
    await machine.asset.link(below=f'{unique}-hall')
    await machine.asset.link(above=f'{unique}-tool')
    assert (seen.above, seen.below) == ({f'{unique}-hall'}, {f'{unique}-tool'})
    hall = await machine.open(f'{unique}-hall')
    assert hall.below == {machine.asset.id}


async def test_row_of_paths(machine: Machine, unique: str) -> None:
    own = await assets.add(machine.application, f'{unique}-t', path=f'{unique}/line/cell')
    try:
        found = await assets.find(machine.application, path=f'{unique}/line')
        assert [one.id for one in found] == [f'{unique}-t']
    finally:
        await own.close()


async def test_row_of_signal_handler_and_forget(url: str, unique: str) -> None:
    """It stops as SIGTERM does: the values stay; `forget` removes them."""
    told: list[str] = []

    class Ending(Machine):
        async def async_main_loop(self) -> None:
            self.signal_handler(15, None)
            await asyncio.Event().wait()

        async def app_event_loop_stopped(self) -> None:
            told.append(self.avail.value)

    async with watcher(url) as other:
        app = Ending(unique, eventbus_url=url, host='127.0.0.1', port=0)
        assert await app.async_run() == 0
        assert told == ['UNAVAILABLE']
        seen = await assets.open(other, unique)
        await seen.wait_for('avail', lambda value: value == 'UNAVAILABLE', timeout_s=10)
        assert seen['speed'].value == 1.5

        class Forgetting(Machine):
            async def async_main_loop(self) -> None:
                await self.asset.forget()

        app = Forgetting(unique, eventbus_url=url, host='127.0.0.1', port=0)
        assert await app.async_run() == 0
        await until(lambda: not seen.known)


def test_rows_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('KAFKA_BROKER', 'broker:9092')
    monkeypatch.setenv('APP_UUID', 'from-the-deployment')
    monkeypatch.setenv('ROOT_PATH', '/shop')
    monkeypatch.setenv('PORT', '4100')
    monkeypatch.setenv('APPLICATION_MANUFACTURER', 'Somebody')
    monkeypatch.setenv('SWARM_REPLICAS', '2')
    monkeypatch.setenv('SWARM_TASK_SLOT', '1')
    app = WebAssetApp()
    assert app.config['eventbus_url'] == 'kafka://broker:9092'
    assert app.asset.id == 'from-the-deployment-1'
    assert (app.config['root_path'], app.config['port']) == ('/shop', 4100)
    assert app.app.config['APPLICATION_ROOT'] == '/shop'
    assert app.APPLICATION_MANUFACTURER == 'Somebody'
    assert app.config['log_level'] == 'info'


def test_rows_of_what_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """What there is no use for here is refused by name, not swallowed."""
    for keyword in ('ksqlClient', 'bootstrap_servers', 'asset_router_url', 'loglevel'):
        with pytest.raises(TypeError, match=keyword):
            Machine('machine', **{keyword: 'x'})


def test_the_page_has_a_row_for_each_name_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / 'docs' / 'coming-from-openfactory.md').read_text()
    there = ' '.join(re.findall(r'^\| (.*?) \|', page, re.MULTILINE))
    for name in NAMES:
        assert name in there, name


NAMES = (
    'OpenFactoryApp', 'OpenFactoryFlaskApp', 'ksqlClient', 'bootstrap_servers', 'asset_router_url',
    'loglevel', 'test_mode', 'APPLICATION_VERSION', 'APPLICATION_MANUFACTURER',
    'APPLICATION_LICENSE', 'logger', 'storage', 'STORAGE', 'async_main_loop', 'async_run',
    'main_loop', 'run()', 'signal_handler', 'app_event_loop_stopped', 'welcome_banner', 'avail',
    'EventAttribute', 'ofa_method', 'KSQLDB_URL', 'KAFKA_BROKER', 'self.app', 'configure_routes',
    'create_flask_app', 'current_app.ofa_app', 'PORT', 'ProxyFix', 'OPENFACTORY_ROOT_PATH',
    'Werkzeug',
)  # fmt: skip
"""What the two pages name, each with a row."""
