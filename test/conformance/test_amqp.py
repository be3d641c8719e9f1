"""The transport for RabbitMQ keeps what every transport must."""

from __future__ import annotations

from typing import ClassVar

import pytest

from service_scaffold.testing import conformance
from test.brokers.rabbitmq import RabbitMQ
from test.conformance.proxied import ProxiedControl


class TestAmqp(conformance.Suite):
    """Against a real broker, through a proxy that can fail."""

    skips: ClassVar[dict[str, str]] = {
        'test_a_new_group_can_begin_with_the_first_message': 'a queue keeps no history',
        'test_order_per_key_holds_over_the_whole_group': 'consumers of a queue compete',
    }

    @pytest.fixture
    def broker(self, rabbitmq: RabbitMQ) -> ProxiedControl:
        """The broker of the session; each test has names of its own."""
        return ProxiedControl(rabbitmq)


class TestAmqpParts(conformance.PartsSuite):
    """Latest values, and who is there."""

    @pytest.fixture
    def broker(self, rabbitmq: RabbitMQ) -> ProxiedControl:
        """The broker of the session; each test has names of its own."""
        return ProxiedControl(rabbitmq)
