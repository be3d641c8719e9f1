"""The plugin: there as soon as the package is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service_scaffold.clock import ManualClock

PRINTS = """
from service_scaffold.clock import ManualClock

def test_it(eventbus_url, manual_clock):
    assert isinstance(manual_clock, ManualClock)
    print('bus', eventbus_url)
"""


@pytest.mark.parametrize(
    ('arguments', 'environment', 'expected'),
    [
        ([], {}, 'memory://'),
        ([], {'SERVICE_EVENTBUS_URL': 'amqp://env'}, 'amqp://env'),
        (['--eventbus-url=mqtt://flag'], {'SERVICE_EVENTBUS_URL': 'amqp://env'}, 'mqtt://flag'),
    ],
)
def test_the_fixture_gives_the_bus_to_test_on(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], expected: str
) -> None:
    (tmp_path / 'test_it.py').write_text(PRINTS)
    clean = {k: v for k, v in os.environ.items() if k != 'SERVICE_EVENTBUS_URL'}
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-s', '-p', 'no:cacheprovider', *arguments],
        cwd=tmp_path,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert f'bus {expected}\n' in done.stdout


def test_the_clock_stands_still(manual_clock: ManualClock) -> None:
    assert manual_clock.time() == manual_clock.time() == 0.0
