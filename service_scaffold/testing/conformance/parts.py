"""The two optional parts of the port in one class."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from service_scaffold.testing.conformance.broker import BrokerControl
from service_scaffold.testing.conformance.connections import Connections
from service_scaffold.testing.conformance.latest_values import LatestValues
from service_scaffold.testing.conformance.who_is_there import WhoIsThere


class PartsSuite(LatestValues, WhoIsThere):
    """What a transport with `state` and `presence` must keep, as assets need it.

    Subclass it as `Test…`, with a fixture `broker`.
    """

    @pytest_asyncio.fixture
    async def connections(self, broker: BrokerControl, exchange: str) -> AsyncIterator[Connections]:
        """Makes connections to a namespace that no other test uses; closed at the end."""
        made = Connections(broker.url, exchange, self.lease_s)
        try:
            yield made
        finally:
            broker.start()
            await made.close()
