"""What the Kafka client would leave behind in an outage is taken care of, on a real Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from service_scaffold.journal.base import NewRecord, TopicSpec
from service_scaffold.message import Message
from service_scaffold.testing.conformance.inbox import eventually
from service_scaffold.transports import open_transport
from service_scaffold.transports.address import Address
from service_scaffold.transports.base import Progress, Settings, Transport
from service_scaffold.transports.kafka import open_journal
from test.brokers.kafka import Kafka

LAG_S = 0.1


@pytest.fixture
async def complaints() -> AsyncIterator[list[str]]:
    """What asyncio would log."""
    loop, heard = asyncio.get_running_loop(), list[str]()

    def hear(_: object, context: dict[str, Any]) -> None:
        heard.append(f'{context["message"]}: {context.get("exception")!r}')

    loop.set_exception_handler(hear)
    yield heard
    loop.set_exception_handler(None)


@pytest.fixture
def unclosed() -> Iterator[list[warnings.WarningMessage]]:
    """Warnings of the client about what nobody has closed."""
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always', ResourceWarning)
        yield caught


def proxied(kafka: Kafka) -> Settings:
    return Settings(Address.parse(kafka.proxied_url))


async def publish(transport: Transport, exchange: str) -> None:
    refused = await transport.publish([Message(exchange, 'a', b'1')], Progress())
    assert refused == {}


async def test_callers_that_give_up_at_once_leave_no_connection(
    kafka, unique, complaints, unclosed
):
    """Whatever the client is at when their time is over; the next caller has its producer soon."""
    transport = open_transport(proxied(kafka))
    await transport.connect()
    kafka.proxy.slow(LAG_S)
    for number in range(12):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout((number + 1) * LAG_S / 2):
                await publish(transport, unique)
    kafka.proxy.slow(0)
    await publish(transport, unique)
    await transport.close()

    gc.collect()

    assert [str(warning.message) for warning in unclosed] == []
    assert complaints == []


async def test_closing_while_a_record_waits_for_its_second_attempt(kafka, unique, complaints):
    """The client takes its batch from where it is not any more."""
    journal = open_journal(proxied(kafka))
    await journal.connect()
    await journal.create([TopicSpec(unique, 1)])
    producer = await journal.producer()
    await producer.produce([NewRecord(unique, b'1', partition=0)])
    kafka.proxy.half_open()
    waiting = asyncio.create_task(producer.produce([NewRecord(unique, b'2', partition=0)]))
    await asyncio.sleep(0.2)
    kafka.proxy.down()
    put_back = producer._producer._message_accumulator._batches
    await eventually(lambda: bool(put_back), 5)

    await producer.close()

    await asyncio.wait({waiting})
    assert waiting.cancelled() or waiting.exception() or isinstance(waiting.result()[0], Exception)
    await journal.close()
    await asyncio.sleep(0)
    assert complaints == []
