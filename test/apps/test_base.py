"""Options as keywords, and the life that every ready-made app has."""

from __future__ import annotations

import asyncio
import socket

import pytest

from service_scaffold import errors, features, scheduler
from service_scaffold.apps.base import ReadyMadeApp


class Pump(features.ServiceFeature):
    """Notes what becomes of it; may fail."""

    error: Exception | None = None

    def __init__(self, app):
        super().__init__(app)
        self.seen: list[str] = []
        self.started = asyncio.Event()

    async def startup(self, app):
        self.seen.append('startup')
        self.started.set()
        if self.error is not None:
            raise self.error

    async def shutdown(self, app):
        self.seen.append('shutdown')


class Plant(ReadyMadeApp):
    """The least ready-made app."""

    def __init__(self, id='plant', **keywords):
        super().__init__(id, {'host': '127.0.0.1', 'port': 0, **keywords})
        scheduler.setup(self.application)
        self.pump = Pump(self.application)
        features.add(self.application, self.pump)


def test_a_flag_comes_before_the_environment_and_that_before_a_keyword(monkeypatch):
    assert Plant(info='keyword').config['info'] == 'keyword'
    monkeypatch.setenv('SERVICE_INFO', 'environment')
    app = Plant(info='keyword')
    assert app.config['info'] == 'environment'

    app.read_arguments(['--info', 'flag', '--max-body-mib', '2'])

    assert app.config['info'] == 'flag'
    assert app.application['config'] is app.config
    assert app.application._client_max_size == 2 * 2**20


def test_a_file_comes_before_a_keyword(monkeypatch, tmp_path):
    (tmp_path / 'plant.toml').write_text('info = "file"\n')
    monkeypatch.setenv('SERVICE_CONFIG', str(tmp_path / 'plant.toml'))

    assert Plant(info='keyword').config['info'] == 'file'


def test_the_constructor_reads_no_flags(monkeypatch):
    monkeypatch.setattr('sys.argv', ['plant', '--info', 'flag', '--no-such-flag'])

    assert Plant().config['info'] == ''


def test_the_id_is_the_default_of_the_name(monkeypatch):
    assert Plant('mill').config['name'] == 'mill'
    monkeypatch.setenv('SERVICE_NAME', 'other')
    assert Plant('mill').config['name'] == 'other'
    with pytest.raises(errors.ConfigError, match='name'):
        Plant('a b')


def test_an_unknown_keyword_is_refused_with_the_nearest_option():
    with pytest.raises(TypeError, match="unknown option 'prot'; did you mean 'port'"):
        Plant(prot=1)


def test_what_begins_with_x_is_kept():
    app = Plant(x_mine=object)

    assert app.extra == {'x_mine': object}
    assert 'x_mine' not in app.config


async def test_it_is_started_and_stopped_as_often_as_one_likes():
    app = Plant()
    before = asyncio.all_tasks()
    for _ in range(2):
        await app.start()
        assert app.address is not None
        _, writer = await asyncio.open_connection(*app.address)
        writer.close()
        await app.stop()
        assert app.address is None
        assert asyncio.all_tasks() == before

    assert app.pump.seen == ['startup', 'shutdown'] * 2
    await app.stop()


def test_it_may_be_started_in_another_loop():
    app = Plant()

    async def once():
        await app.start()
        await app.stop()

    asyncio.run(once())
    asyncio.run(once())

    assert app.pump.seen == ['startup', 'shutdown'] * 2


async def test_it_is_started_only_once_at_a_time():
    app = Plant()
    await app.start()
    try:
        with pytest.raises(RuntimeError, match='stop it first'):
            await app.start()
    finally:
        await app.stop()


async def test_why_it_did_not_start_is_raised():
    app = Plant()
    app.pump.error = ValueError('no water')
    with pytest.raises(ValueError, match='no water'):
        await app.start()

    app.pump.error = None
    await app.start()
    await app.stop()


async def test_a_port_that_is_taken_is_raised():
    with socket.create_server(('127.0.0.1', 0)) as taken:
        app = Plant(port=taken.getsockname()[1])
        with pytest.raises(OSError, match='Cannot listen'):
            await app.start()

    assert app.pump.seen == []


async def test_why_it_could_not_go_on_is_raised_by_stop():
    app = Plant()
    await app.start()

    features.get_lifecycle(app.application).fail(ValueError('the well is dry'))

    with pytest.raises(ValueError, match='well is dry'):
        await app.stop()
    assert app.pump.seen == ['startup', 'shutdown']


async def test_not_ready_in_time_it_is_stopped():
    class Slow(Plant):
        async def until_ready(self):
            await asyncio.Event().wait()

    app = Slow()
    with pytest.raises(TimeoutError, match=r'not ready within 0\.05 s'):
        await app.start(timeout_s=0.05)
    assert app.pump.seen == ['startup', 'shutdown']


async def test_stopped_while_it_runs_its_status_is_0():
    app = Plant()
    running = asyncio.ensure_future(app.run_async())
    await app.pump.started.wait()
    await app.stop()

    assert await asyncio.wait_for(running, 5) == 0


def test_it_is_furnished_under_its_name():
    app = Plant('mill')
    app._furnish()

    assert '/mill/_service/status' in {
        resource.canonical for resource in app.application.router.resources()
    }
