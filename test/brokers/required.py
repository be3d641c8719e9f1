"""What becomes of a test whose broker is not installed."""

from __future__ import annotations

import os

import pytest

from test.brokers.process import Broker


def require_broker(broker: type[Broker]) -> None:
    """Skip the test when `broker` is not installed; fail it where brokers are required.

    For tests that make their own broker, with TLS or credentials.
    """
    require_program(broker.missing())


def require_program(reason: str | None) -> None:
    """Skip the test for a reason, what the machine lacks; fail it where brokers are required."""
    if reason is None:
        return
    wanted = os.environ.get('SERVICE_SCAFFOLD_REQUIRE_BROKERS') == '1'
    if wanted or os.environ.get('CI') == 'true':
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
