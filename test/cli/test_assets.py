"""`service-scaffold assets`, as a program beside a service that owns assets."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from service_scaffold import assets, service
from service_scaffold.cli.main import main
from service_scaffold.testing import running
from test.brokers.mosquitto import Mosquitto

Run = Callable[..., Awaitable[Result]]


def move(x: float, y: float = 0) -> str:
    return f'at {x}/{y}'


@pytest.fixture
async def mill(mosquitto: Mosquitto, unique: str) -> AsyncIterator[assets.OwnedAsset]:
    """An asset that is owned by this process."""
    app: web.Application = service.create_app(
        unique, raw_args=['--eventbus-url', mosquitto.url, '--instance', unique]
    )
    assets.setup(app)
    async with running(app):
        own = await assets.add(
            app,
            unique,
            kind=f'mill-{unique}',
            path='hall-1',
            attributes={'wear': assets.sample(0.5, tag='Wear')},
            methods={'move': move},
        )
        yield own
        await own.forget()


@pytest.fixture
def run(mosquitto: Mosquitto) -> Run:
    """Run a command: `await run('ls')`."""

    async def run_command(*arguments: str) -> Result:
        command = ['assets', *arguments, '--url', mosquitto.url]
        return await asyncio.to_thread(CliRunner().invoke, main, command)

    return run_command


async def test_assets_are_listed(mill: assets.OwnedAsset, run: Run) -> None:
    listed = await run('ls', '--kind', f'mill-{mill.id}', '--json')
    assert json.loads(listed.stdout) == [
        {'id': mill.id, 'kind': f'mill-{mill.id}', 'path': 'hall-1', 'available': True}
    ]
    away = await run('ls', '--kind', f'mill-{mill.id}', '--away')
    assert mill.id not in away.stdout


async def test_an_asset_is_shown_with_its_attributes_and_methods(
    mill: assets.OwnedAsset, run: Run
) -> None:
    shown = (await run('show', mill.id)).stdout
    assert f'{mill.id}: mill-{mill.id}, hall-1, available' in shown
    assert '(x: float, y: float) -> str' in shown
    row = next(line for line in shown.splitlines() if line.startswith('wear'))
    assert row.split()[:5] == ['wear', 'sample', '0.5', 'Wear', 'good']


async def test_a_method_is_called(mill: assets.OwnedAsset, run: Run) -> None:
    assert (await run('call', mill.id, 'move', 'x=1', 'y=2.5')).stdout == 'at 1.0/2.5\n'
    wrong = await run('call', mill.id, 'move', 'y=abc')
    assert wrong.exit_code == 1
    assert 'x: missing' in wrong.stderr
    assert 'y: Expected `float`, got `str`' in wrong.stderr
    reserved = await run('call', mill.id, 'move', 'x=1', 'queue=1')
    assert (reserved.exit_code, 'queue: unknown argument' in reserved.stderr) == (1, True)


@pytest.mark.parametrize('command', [['show', 'nobody'], ['call', 'nobody', 'move']])
async def test_an_unknown_asset_is_an_error(run: Run, command: list[str]) -> None:
    result = await run(*command)
    assert (result.exit_code, result.stderr) == (1, 'service-scaffold: nobody is not known\n')


async def test_a_bus_that_is_away_is_an_error_that_names_it() -> None:
    arguments = ['assets', 'ls', '--url', 'mqtt://127.0.0.1:9', '--timeout-s', '1']
    result = await asyncio.to_thread(CliRunner().invoke, main, arguments)
    assert result.exit_code == 1
    assert 'mqtt://127.0.0.1:9' in result.stderr


def _interruptible() -> None:
    """A program started in the background of a shell ignores SIGINT, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


async def test_changes_are_printed_until_it_is_interrupted(
    mill: assets.OwnedAsset, mosquitto: Mosquitto
) -> None:
    program = 'from service_scaffold.cli.main import main; main()'
    watching = await asyncio.create_subprocess_exec(
        *(sys.executable, '-c', program, 'assets', 'watch', mill.id, '--attribute', 'wear'),
        *('--json', '--url', mosquitto.url),
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=_interruptible,
    )
    assert watching.stdout is not None
    try:
        async with asyncio.timeout(20):
            assert json.loads(await watching.stdout.readline())['value'] == 0.5
            await mill.set('wear', 0.75)
            assert json.loads(await watching.stdout.readline())['value'] == 0.75
            watching.send_signal(signal.SIGINT)
            assert await watching.wait() == 130
    finally:
        if watching.returncode is None:
            watching.kill()
