"""A real broker behind a proxy that makes the faults."""

from __future__ import annotations

from service_scaffold.testing import conformance
from test.brokers.process import Broker


class ProxiedControl(conformance.BrokerControl):
    """The broker itself stays up; what a client sees of it can fail."""

    def __init__(self, broker: Broker) -> None:
        self.url = broker.proxied_url
        self._proxy = broker.proxy

    def stop(self) -> None:
        self._proxy.down()

    def half_open(self) -> None:
        self._proxy.half_open()

    def start(self) -> None:
        self._proxy.restore()
