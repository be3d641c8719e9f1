"""Recoveries that somebody watches, on a terminal."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Callable

import pytest

from service_scaffold.journal.base import NewRecord, TopicSpec
from service_scaffold.streams.cli.bars import Bars, recoveries_shown
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from test.chaos.stream_workers import connected
from test.running import Process, get
from test.streams.several import until

LIMIT_S = 30
RECORDS = 12_000
PROGRAM = """
import sys
from service_scaffold.apps.stream import StreamApp

app = StreamApp(sys.argv.pop(1))
counts = app.Table('counts', default=int, partitions=1)


@app.agent(app.topic(f'{app.id}-words', partitions=1))
async def count(stream):
    async for word in stream:
        counts[word] += 1


app.main()
"""


class Terminal(io.StringIO):
    """A terminal that keeps what it was told."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name in ('NO_COLOR', 'TERM', 'COLUMNS'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('COLUMNS', '100')
    return Terminal()


def plain(text: str) -> str:
    """Return a text without what moves the cursor and colours it."""
    return re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', text)


def test_a_bar_is_of_all_partitions_of_a_table(terminal):
    """It is full at the end, and the terminal is as it was."""
    bars = Bars(terminal)
    for partition in (0, 1):
        bars.on_restore_start('counts', partition, 100, 1100)
    bars.on_restore_batch('counts', 0, 600, 500)
    assert '\x1b[?25l' in terminal.getvalue(), 'there is a bar'
    bars.on_restore_batch('counts', 0, 1100, 500)
    bars.on_restore_end('counts', 0, 1000)
    assert '\x1b[?25h' not in terminal.getvalue(), 'the other partition is not there yet'
    bars.on_restore_batch('counts', 1, 1100, 1000)
    bars.on_restore_end('counts', 1, 1000)

    shown = terminal.getvalue()
    assert '\x1b[?25h' in shown, 'the cursor is back'
    assert re.search(r'counts ━+ +100% 2,000 of 2,000', plain(shown))


def test_what_one_batch_brings_has_no_bar(terminal):
    bars = Bars(terminal)
    bars.on_restore_start('counts', 0, 0, 10)
    bars.on_restore_batch('counts', 0, 10, 10)
    bars.on_restore_end('counts', 0, 10)
    bars.close()

    assert terminal.getvalue() == ''


def test_a_recovery_that_is_broken_off_begins_a_new_bar(terminal):
    bars = Bars(terminal)
    for total in (200, 300):
        bars.on_restore_start('counts', 0, 0, total)
        bars.on_restore_batch('counts', 0, 100, 100)
        if total == 200:
            bars.on_restore_suspended('counts', 0, 100)
    bars.on_restore_end('counts', 0, 300)

    assert plain(terminal.getvalue()).count('300 of 300') == 1
    assert '200 of 200' not in terminal.getvalue()


def test_the_log_goes_above_the_bars(terminal):
    """And to where it went before, afterwards."""
    handler = logging.StreamHandler(terminal)
    logging.getLogger().addHandler(handler)
    try:
        bars = Bars(terminal)
        bars.on_restore_start('counts', 0, 0, 20)
        bars.on_restore_batch('counts', 0, 10, 10)
        logging.getLogger('test').warning('the pump is away')
        bars.close()
        logging.getLogger('test').warning('the pump is back')
    finally:
        logging.getLogger().removeHandler(handler)

    assert handler.stream is terminal
    lines = [line.strip() for line in plain(terminal.getvalue()).replace('\r', '\n').splitlines()]
    assert 'the pump is away' in lines
    assert 'the pump is back' in lines


@pytest.mark.parametrize('installed', [True, False])
def test_without_rich_there_are_no_bars(terminal, monkeypatch, installed):
    """The lines of the log remain."""
    monkeypatch.setattr(sys, 'stderr', terminal)
    if not installed:
        monkeypatch.setitem(sys.modules, 'rich.console', None)
    topology = Topology(StreamSettings('shop'))

    with recoveries_shown(topology):
        assert len(topology.restore_listeners) == installed

    assert topology.restore_listeners == []


class Watched:
    """A worker whose standard error is a terminal."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader) -> None:
        self.process = process
        self.shown = ''
        self._reader = reader

    async def until(self, pattern: str) -> None:
        """Read until the terminal shows a pattern."""
        async with asyncio.timeout(LIMIT_S):
            while not re.search(pattern, plain(self.shown)):
                data = await self._reader.read(4096)
                assert data, self.shown
                self.shown += data.decode(errors='replace')


@pytest.fixture
async def watch() -> AsyncIterator[Callable]:
    """Start the program with a terminal; what has not ended at the end is killed."""
    made = []

    async def watch(*args: str) -> Watched:
        master, slave = os.openpty()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            '-c',
            PROGRAM,
            *args,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=slave,
            env={**os.environ, 'TERM': 'xterm', 'COLUMNS': '120'},
        )
        os.close(slave)
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(master, 'rb', 0)
        )
        made.append((process, transport))
        return Watched(process, reader)

    yield watch
    for process, transport in made:
        if process.returncode is None:
            process.kill()
        await process.wait()
        transport.close()


@pytest.fixture
async def filled(kafka, unique) -> tuple[str, ...]:
    """Arguments of a worker whose table has a changelog, and no store."""
    journal = await connected(kafka.url)
    changelog = f'{unique}-counts-changelog'
    await journal.create([TopicSpec(changelog, 1, config={'cleanup.policy': 'compact'})])
    producer = await journal.producer()
    await producer.produce([NewRecord(changelog, b'1', b'"%d"' % n) for n in range(RECORDS)])
    await producer.close()
    await journal.close()
    return unique, 'worker', '--broker', kafka.url, '--port', '0'


async def test_a_worker_on_a_terminal_shows_a_bar(watch, filled, tmp_path):
    """On a real Kafka and a real terminal; the log goes on above it and after it."""
    worker = await watch(*filled, '--datadir', str(tmp_path))
    await worker.until(r'counts ━+ +100% 12,000 of 12,000')
    worker.process.terminate()
    await worker.until('SIGTERM')

    assert await asyncio.wait_for(worker.process.wait(), LIMIT_S) == 0
    assert worker.shown.count('\x1b[?25l') == worker.shown.count('\x1b[?25h') == 1
    assert re.search(r'^\d{4}/.* Listening on', plain(worker.shown), re.MULTILINE)


async def test_without_a_terminal_there_is_none(filled, tmp_path):
    """The log has no escape sequences."""
    worker = Process(
        await asyncio.create_subprocess_exec(
            sys.executable,
            '-c',
            PROGRAM,
            *filled,
            '--datadir',
            str(tmp_path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    )
    try:
        url = await worker.url()

        async def is_ready() -> bool:
            return (await get(f'{url}/_service/ready'))[0] == 200

        await until(is_ready)
    finally:
        await worker.close()

    assert '\x1b' not in worker.log
