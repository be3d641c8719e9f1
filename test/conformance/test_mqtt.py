"""The transport for Mosquitto keeps what every transport must."""

from __future__ import annotations

from typing import ClassVar

import pytest

from service_scaffold.testing import conformance
from test.brokers.mosquitto import Mosquitto
from test.conformance.proxied import ProxiedControl


class TestMqtt(conformance.Suite):
    """Against a real broker, through a proxy that can fail."""

    skips: ClassVar[dict[str, str]] = {
        'test_a_new_group_can_begin_with_the_first_message': 'the broker keeps no history',
        'test_order_per_key_holds_over_the_whole_group': 'members of a group compete',
        'test_one_bad_subscription_leaves_the_others_alone': 'topics have no exchange type',
        'test_unsubscribing_hands_back_what_had_not_begun': 'it comes again at the next connection',
        'test_a_group_keeps_what_comes_while_nobody_is_subscribed': 'no member, no group',
    }

    @pytest.fixture
    def broker(self, mosquitto: Mosquitto) -> ProxiedControl:
        """The broker of the session; each test has names of its own."""
        return ProxiedControl(mosquitto)


class TestMqttParts(conformance.PartsSuite):
    """Latest values, and who is there."""

    @pytest.fixture
    def broker(self, mosquitto: Mosquitto) -> ProxiedControl:
        """The broker of the session; each test has names of its own."""
        return ProxiedControl(mosquitto)
