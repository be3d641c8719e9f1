"""Fixtures for pytest, there as soon as the package is installed with its extra `test`."""

from __future__ import annotations

import os

import pytest

from service_scaffold.clock import ManualClock


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--eventbus-url`."""
    parser.addoption(
        '--eventbus-url',
        default=None,
        help='event bus that the fixture `eventbus_url` gives (default: $SERVICE_EVENTBUS_URL,'
        ' else memory://)',
    )


@pytest.fixture
def eventbus_url(request: pytest.FixtureRequest) -> str:
    """The event bus to test on: one suite runs on every transport by changing it."""
    chosen = request.config.getoption('--eventbus-url')
    return str(chosen or os.environ.get('SERVICE_EVENTBUS_URL') or 'memory://')


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock that the test moves: `features.set_clock(app, manual_clock)` before any `setup`."""
    return ManualClock()
