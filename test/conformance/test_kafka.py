"""The transport for Kafka keeps what every transport must."""

from __future__ import annotations

from typing import ClassVar

import pytest

from service_scaffold.testing import conformance
from test.brokers.kafka import Kafka
from test.conformance.proxied import ProxiedControl


class TestKafka(conformance.Suite):
    """Against a real broker, through a proxy that can fail."""

    skips: ClassVar[dict[str, str]] = {
        'test_nobody_there_is_said_at_once': 'a publisher is not told who subscribes',
        'test_one_bad_subscription_leaves_the_others_alone': 'topics have no exchange type',
    }

    @pytest.fixture
    def broker(self, kafka: Kafka) -> ProxiedControl:
        """The broker of the session; each test has names of its own."""
        return ProxiedControl(kafka)


class TestKafkaParts(conformance.PartsSuite):
    """Latest values, and who is there."""

    @pytest.fixture
    def broker(self, kafka: Kafka) -> ProxiedControl:
        """The broker of the session; each test has names of its own."""
        return ProxiedControl(kafka)
