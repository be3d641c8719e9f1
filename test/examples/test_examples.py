"""Every example, started as its first lines say, does what they say."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest

from test.examples.process import EXAMPLES, LIMIT_S, running


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


async def test_readings_go_through_three_applications() -> None:
    with running('pipeline') as pipeline:
        report = await pipeline.becomes('/report', lambda found: len(found) == 2)

        assert set(report) == {'north', 'south'}
        assert all(10 < celsius < 30 for celsius in report.values())


def test_a_pipeline_ends_when_all_is_stored() -> None:
    options = ['--exit-when-done', '--host', '127.0.0.1', '--port', '0']
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / 'pipeline.py'), *options],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr.count('cannot be') == 10


def test_every_example_is_listed_and_tested() -> None:
    names = {path.stem for path in EXAMPLES.glob('*.py')}
    listed = set(re.findall(r'\]\((\w+)\.py\)', (EXAMPLES / 'README.md').read_text()))
    tests = ''.join(path.read_text() for path in Path(__file__).parent.glob('test_*.py'))
    tested = set(re.findall(r"running\('(\w+)'", tests))

    assert names == listed == tested
