"""The base of all tests of the suite: instances, names, and the table of what is skipped."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, ClassVar, TypeVar

import pytest
import pytest_asyncio

from service_scaffold import transports
from service_scaffold.testing.conformance.broker import BrokerControl
from service_scaffold.testing.conformance.instances import Instances
from service_scaffold.transports.base import Capabilities

F = TypeVar('F', bound=Callable[..., Any])
_NEEDS = '_conformance_needs'
FAULTS = 'faults'


def needs(*capabilities: str) -> Callable[[F], F]:
    """Skip the decorated test on transports that lack one of `capabilities`.

    Args:
        capabilities: Names of attributes of `Capabilities`, or `faults` for a test that breaks
            the broker.
    """

    def decorate(test: F) -> F:
        setattr(test, _NEEDS, capabilities)
        return test

    return decorate


class Case:
    """Tests of one transport; a subclass gives the fixture `broker`.

    Attributes:
        skips: Name of a test to the reason why this transport cannot pass it. Exactly the tests
            that need a capability which the transport lacks stand here: a test that would be
            skipped without being listed fails, and so does one that is listed and could run.
    """

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.asyncio]
    skips: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        unknown = sorted(name for name in cls.skips if not hasattr(cls, name))
        if unknown:
            raise TypeError(f'{cls.__name__}.skips names tests that do not exist: {unknown}')

    @pytest.fixture
    def broker(self) -> BrokerControl:
        """The broker to test on; to be overridden."""
        raise NotImplementedError(f'{type(self).__name__} needs a fixture `broker`')

    @pytest.fixture
    def capabilities(self, broker: BrokerControl) -> Capabilities:
        """What the transport says that it can do."""
        return transports.find(broker.url.partition(':')[0]).capabilities

    @pytest.fixture(autouse=True)
    def _skip_by_table(
        self, request: pytest.FixtureRequest, broker: BrokerControl, capabilities: Capabilities
    ) -> None:
        needed: tuple[str, ...] = getattr(request.function, _NEEDS, ())
        lacks = [name for name in needed if not _has(name, broker, capabilities)]
        reason = self.skips.get(request.function.__name__)
        if reason is None and lacks:
            pytest.fail(f'needs {", ".join(lacks)}, but is not in the table `skips`')
        if reason is not None and not lacks:
            pytest.fail(f'is in the table `skips` ({reason}), but nothing that it needs is lacking')
        if reason is not None:
            pytest.skip(reason)

    @pytest.fixture
    def exchange(self) -> str:
        """An exchange that no other test uses."""
        return f'c{uuid.uuid4().hex[:12]}'

    @pytest_asyncio.fixture
    async def instances(self, broker: BrokerControl, exchange: str) -> AsyncIterator[Instances]:
        """Starts instances of a service that no other test uses; stopped at the end."""
        made = Instances(broker.url, f's{exchange}')
        try:
            yield made
        finally:
            broker.start()
            await made.stop()


def _has(name: str, broker: BrokerControl, capabilities: Capabilities) -> bool:
    return broker.breakable if name == FAULTS else bool(getattr(capabilities, name))
