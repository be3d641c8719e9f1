"""Brokers that tests may kill: one of each kind, apart from those that others use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio

from service_scaffold.journal.base import Journal
from service_scaffold.testing.conformance import Instance, Instances
from test.brokers.kafka import Kafka
from test.brokers.mosquitto import Mosquitto
from test.brokers.process import Broker
from test.brokers.rabbitmq import RabbitMQ
from test.brokers.required import require_broker
from test.chaos.stream_workers import connected
from test.chaos.told import Told

KINDS: tuple[type[Broker], ...] = (RabbitMQ, Kafka, Mosquitto)


@pytest.fixture(scope='session')
def brokers() -> Iterator[Callable[[type[Broker]], Broker]]:
    """Give the broker of a kind, started when it is first wanted."""
    started: dict[type[Broker], Broker] = {}

    def of(kind: type[Broker]) -> Broker:
        if kind not in started:
            require_broker(kind)
            started[kind] = kind()
        started[kind].start()
        started[kind].restore()
        return started[kind]

    yield of
    for broker in started.values():
        broker.close()


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def broker(request: pytest.FixtureRequest, brokers: Callable[[type[Broker]], Broker]) -> Broker:
    """Each kind of broker; may be killed."""
    return brokers(request.param)


@pytest_asyncio.fixture
async def instances(broker: Broker, unique: str) -> AsyncIterator[Instances]:
    """Instances of one service on the broker itself; stopped when it is there again."""
    made = Instances(broker.url, f's{unique}')
    yield made
    await _stop(broker, made)


@pytest_asyncio.fixture
async def proxied(broker: Broker, unique: str) -> AsyncIterator[Instances]:
    """Instances of one service that reach the broker through its proxy."""
    made = Instances(broker.proxied_url, f's{unique}')
    yield made
    await _stop(broker, made)


@pytest_asyncio.fixture
async def teller(instances: Instances, unique: str) -> tuple[Instance, Told]:
    """Who publishes work, and hears what the workers tell."""
    instance, told = await instances.start(), Told()
    await instance.subscribe(f'{unique}.out', '#', told)
    return instance, told


async def _stop(broker: Broker, made: Instances) -> None:
    await asyncio.to_thread(broker.start)
    broker.restore()
    await made.stop()


@pytest.fixture
def kafka(brokers: Callable[[type[Broker]], Broker]) -> Broker:
    """A Kafka that may be killed."""
    return brokers(Kafka)


@pytest_asyncio.fixture
async def journal(kafka: Broker) -> AsyncIterator[Journal]:
    """A connection of the test's own to that Kafka; closed at the end."""
    made = await connected(kafka.url)
    yield made
    await made.close()
