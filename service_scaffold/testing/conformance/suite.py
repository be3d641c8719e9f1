"""All cases in one class."""

from __future__ import annotations

from service_scaffold.testing.conformance.asking import Asking
from service_scaffold.testing.conformance.bodies import Bodies
from service_scaffold.testing.conformance.failures import Failures
from service_scaffold.testing.conformance.groups import Concurrency, Groups
from service_scaffold.testing.conformance.life import Life
from service_scaffold.testing.conformance.outages import Outages
from service_scaffold.testing.conformance.publishing import Publishing
from service_scaffold.testing.conformance.routing import Routing
from service_scaffold.testing.conformance.subscribing import Subscribing


class Suite(
    Subscribing,
    Routing,
    Groups,
    Concurrency,
    Failures,
    Asking,
    Publishing,
    Bodies,
    Outages,
    Life,
):
    """What every transport must keep. Subclass it as `Test…`, with a fixture `broker`."""
