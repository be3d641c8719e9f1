"""What becomes of a test whose broker is not installed."""

from __future__ import annotations

import os

import pytest

from test.brokers.process import Broker


def require_broker(broker: type[Broker]) -> None:
    """Skip the test when `broker` is not installed; fail it where brokers are required.

    For tests that make their own broker, with TLS or credentials.
    """
    reason = broker.missing()
    if reason is None:
        return
    wanted = os.environ.get('SERVICE_SCAFFOLD_REQUIRE_BROKERS') == '1'
    if wanted or os.environ.get('CI') == 'true':
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
