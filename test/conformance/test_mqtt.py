"""The transport for Mosquitto keeps what every transport must."""

from __future__ import annotations

from typing import ClassVar

import pytest

from service_scaffold.testing import conformance
from test.brokers.mosquitto import Mosquitto
from test.conformance.proxied import ProxiedControl


class TestMqtt(conformance.Suite):
    """Against a real broker, through a proxy that can fail."""

    skips: ClassVar[dict[str, str]] = {}

    @pytest.fixture
    def broker(self, mosquitto: Mosquitto) -> ProxiedControl:
        """The broker of the session; each test has names of its own."""
        return ProxiedControl(mosquitto)
