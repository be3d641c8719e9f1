"""What every transport must keep, as tests that anybody can run on a transport of their own.

    class TestCarrierPigeon(conformance.Suite):
        skips = {'test_a_new_group_can_begin_with_the_first_message': 'pigeons keep no log'}

        @pytest.fixture
        def broker(self) -> conformance.BrokerControl:
            return Loft('pigeon://localhost')

The tests use the public API only: applications with `events.setup(app)`, several of them as
several instances. A transport that has `state` and `presence`, too, is put to `PartsSuite`, which
uses it as the assets do. They need pytest and pytest-asyncio (the extra `test`).
"""

from __future__ import annotations

from service_scaffold.testing.conformance.broker import BrokerControl
from service_scaffold.testing.conformance.case import Case, needs
from service_scaffold.testing.conformance.inbox import Gate, Inbox, RawInbox, Received
from service_scaffold.testing.conformance.instances import Instance, Instances
from service_scaffold.testing.conformance.parts import PartsSuite
from service_scaffold.testing.conformance.suite import Suite

__all__ = [
    'BrokerControl',
    'Case',
    'Gate',
    'Inbox',
    'Instance',
    'Instances',
    'PartsSuite',
    'RawInbox',
    'Received',
    'Suite',
    'needs',
]
