"""Every example, started as its first lines say, does what they say."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / 'examples'
LIMIT_S = 20


class Example:
    """A running example."""

    def __init__(self, base: str) -> None:
        self._base = base

    def ask(self, path: str, body: object = None, **headers: str) -> object:
        """Ask by GET, or by POST with a body, and return the answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, headers)
        with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
            return json.load(response)

    async def becomes(self, path: str, wanted: Callable[[object], bool]) -> object:
        """Ask until the answer is as wanted: what is consumed shows a moment later."""
        async with asyncio.timeout(LIMIT_S):
            while not wanted(answer := await asyncio.to_thread(self.ask, path)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return answer

    def wait_ready(self) -> None:
        """Ask until the service is ready."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                self.ask('/_service/ready')
            except urllib.error.HTTPError as error:
                if error.code != 503 or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return


@contextmanager
def running(name: str, *options: str) -> Iterator[Example]:
    command = [sys.executable, str(EXAMPLES / f'{name}.py'), '--port', '0', *options]
    process = subprocess.Popen([*command, '--host', '127.0.0.1'], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r'http://\S+:(\d+)', line):
                break
        else:
            pytest.fail(f'{name} did not start')
        example = Example(f'http://127.0.0.1:{found[1]}/{name}')
        example.wait_ready()
        yield example
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, errors
    finally:
        process.kill()
        process.communicate()


async def test_a_low_tank_raises_an_alarm() -> None:
    with running('tanks') as tanks:
        tanks.ask('/levels/south', {'litres': 30})
        tanks.ask('/levels/north', {'litres': 3})

        alarms = await tanks.becomes('/alarms', bool)

        assert alarms == [{'tank': 'north', 'litres': 3}]


async def test_a_request_is_answered_by_value_or_by_error() -> None:
    with running('calibration') as calibration:
        answer = calibration.ask('/north?to=4', {})

        assert answer == {'tank': 'north', 'calibrated_to': 4}
        with pytest.raises(urllib.error.HTTPError) as refused:
            calibration.ask('/north?to=-1', {})
        assert refused.value.code == 422
        assert b'less than nothing' in refused.value.read()


async def test_a_dead_letter_is_delivered_when_it_is_replayed() -> None:
    with running('letters') as letters:
        letters.ask('/Ada', {'text': 'Hello'})
        letters.ask('/Bob', {'text': 'Hello'})

        dead = await letters.becomes('/dead', bool)
        letters.ask('/move-in/Bob', {})
        delivered = await letters.becomes('/delivered', lambda found: len(found) == 2)

        assert dead == [
            {
                'to': 'Bob',
                'why': 'LookupError: Bob does not live here',
                'attempts': 2,
                'letter': {'text': 'Hello'},
            }
        ]
        assert delivered == [{'to': 'Ada', 'text': 'Hello'}, {'to': 'Bob', 'text': 'Hello'}]


async def test_a_request_id_travels_through_two_events() -> None:
    with running('tracing') as tracing:
        tracing.ask('/orders', {}, **{'X-Request-Id': 'abc'})

        seen = await tracing.becomes('/seen', bool)

        assert seen == [{'request_id': 'abc', 'item': 'tea'}]


async def test_a_repeater_measures_and_the_api_page_names_it() -> None:
    with running('weather', '--interval-s', '0.05') as weather:
        latest = await weather.becomes('/latest', lambda found: found['celsius'] is not None)
        document = weather.ask('/api/doc/swagger.json')

        assert isinstance(latest['celsius'], float)
        assert '/weather/latest' in document['paths']


def test_every_example_is_listed_and_tested() -> None:
    names = {path.stem for path in EXAMPLES.glob('*.py')}
    listed = set(re.findall(r'\]\((\w+)\.py\)', (EXAMPLES / 'README.md').read_text()))
    tested = set(re.findall(r"running\('(\w+)'", Path(__file__).read_text()))

    assert names == listed == tested
