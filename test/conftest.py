"""Fixtures of the whole suite: brokers for the session, fresh names, nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from test.brokers.kafka import Kafka
from test.brokers.mosquitto import Mosquitto
from test.brokers.process import Broker
from test.brokers.rabbitmq import RabbitMQ
from test.brokers.required import require_broker

AnyBroker = TypeVar('AnyBroker', bound=Broker)

_GRACE_S = 0.25
_started = pytest.StashKey[list[Broker]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_started] = []
    config.addinivalue_line(
        'markers', 'stray_tasks: the test may leave asyncio tasks and unretrieved exceptions'
    )


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, object, object]:
    """Escape what is no UTF-8, and logged on purpose: reports go from one process to another."""
    return _escaped((yield))


def _escaped(data: object) -> object:
    if isinstance(data, str):
        return data.encode(errors='backslashreplace').decode()
    if isinstance(data, dict):
        return {key: _escaped(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return type(data)(map(_escaped, data))
    return data


@pytest.fixture(scope='session')
def rabbitmq(request: pytest.FixtureRequest) -> Iterator[RabbitMQ]:
    """A RabbitMQ for the whole session: AMQP without TLS, guest:guest."""
    yield from _run(request, RabbitMQ)


@pytest.fixture(scope='session')
def kafka(request: pytest.FixtureRequest) -> Iterator[Kafka]:
    """A Kafka for the whole session: no TLS, no SASL; a listener of its own for the proxy."""
    yield from _run(request, Kafka)


@pytest.fixture(scope='session')
def mosquitto(request: pytest.FixtureRequest) -> Iterator[Mosquitto]:
    """A Mosquitto for the whole session: no TLS, anyone may connect; saves only when it ends.

    One that is to be killed saves at each change, and each message that waits for a group is one:
    500 published at once took it 1.4 to 3.3 s on a busy machine, where 3 s are the limit.
    """
    seldom = {'autosave_on_changes': 'false', 'autosave_interval': '1800'}
    yield from _run(request, Mosquitto, settings=seldom)


@pytest.fixture
def unique() -> str:
    """A name that no other test uses, good for exchanges, groups, topics and instances."""
    return f't{uuid.uuid4().hex[:12]}'


def _run(
    request: pytest.FixtureRequest, kind: type[AnyBroker], **options: Any
) -> Iterator[AnyBroker]:
    require_broker(kind)
    broker = kind(**options)
    try:
        broker.start()
        request.config.stash[_started].append(broker)
        yield broker
    finally:
        broker.close()


@pytest.fixture(autouse=True)
def _whole_brokers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Bring back what a chaos test has killed or cut, whatever became of the test."""
    yield
    for broker in request.config.stash[_started]:
        broker.start()
        broker.restore()


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves asyncio tasks or exceptions that nobody has looked at."""
    if request.node.get_closest_marker('stray_tasks'):
        yield
        return
    if inspect.iscoroutinefunction(getattr(request, 'function', None)):
        request.getfixturevalue('_no_stray_tasks')
    complaints = _Complaints()
    logger = logging.getLogger('asyncio')
    logger.addHandler(complaints)
    yield
    # The young generations only: what the test has left is there, and a full pass is dear.
    gc.collect(1)
    logger.removeHandler(complaints)
    if complaints.messages:
        pytest.fail('asyncio complains: ' + '; '.join(complaints.messages), pytrace=False)


@pytest_asyncio.fixture
async def _no_stray_tasks() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    mine = {asyncio.current_task()}
    left = asyncio.all_tasks() - before - mine
    if left:
        await asyncio.wait(left, timeout=_GRACE_S)
    names = sorted(repr(task.get_coro()) for task in left if not task.done())
    if names:
        pytest.fail(f'{len(names)} tasks are left: ' + '; '.join(names), pytrace=False)


class _Complaints(logging.Handler):
    """Keeps what asyncio logs about lost exceptions and destroyed tasks."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if 'never retrieved' in message or 'was destroyed' in message:
            self.messages.append(message)
