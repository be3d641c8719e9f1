"""What the AMQP transport declares and binds on a real broker."""

from __future__ import annotations

import time
from typing import Any

import aio_pika
import pytest

from service_scaffold import errors
from service_scaffold.message import Message
from service_scaffold.transports.base import Binding, IntakeSpec, Progress
from test.brokers.rabbitmq import RabbitMQ
from test.transports.amqp_peer import (
    bodies,
    connected,
    foreign,
    group,
    live,
    publish,
    take,
    topic,
)


@pytest.fixture
def url(rabbitmq: RabbitMQ) -> str:
    """The URL of the session's broker."""
    return rabbitmq.url


async def test_a_group_queue_has_exactly_the_promised_arguments(url: str, unique: str) -> None:
    """Another client that declares the same arguments agrees; with none it does not."""
    store = f'{unique}.dlq'
    arguments: dict[str, Any] = {'x-queue-type': 'quorum', 'x-dead-letter-exchange': store}
    async with connected(url) as transport:
        await group(transport, unique)
        async with foreign(url) as channel:
            await channel.declare_queue(f'g@{unique}', durable=True, arguments=arguments)
            await channel.declare_exchange(unique, 'topic', durable=True)
            await channel.declare_exchange(f'{unique}.dlq', 'topic', durable=True)
            with pytest.raises(aio_pika.exceptions.ChannelPreconditionFailed):
                await channel.declare_queue(f'g@{unique}', durable=True)


@pytest.mark.parametrize(
    ('exchange_type', 'pattern', 'expected'),
    [('direct', 'a.b', [b'2']), ('fanout', 'ignored', [b'1', b'2'])],
)
async def test_other_exchange_types(
    url: str, unique: str, exchange_type: str, pattern: str, expected: list[bytes]
) -> None:
    async with connected(url) as transport:
        spec = IntakeSpec(group='g', exchange=unique, exchange_type=exchange_type)
        intake = await transport.intake(spec)
        assert not await intake.bind([Binding(unique, exchange_type, pattern)])
        messages = [
            Message(unique, 'a.c', b'1', exchange_type=exchange_type),
            Message(unique, 'a.b', b'2', exchange_type=exchange_type),
        ]
        assert not await transport.publish(messages, Progress())

        assert bodies(await take(intake, len(expected))) == expected


async def test_one_refused_binding_leaves_the_others(url: str, unique: str) -> None:
    """An exchange of another type is named with both types, and heals once it has gone."""
    bad, good = topic(f'{unique}.bad'), topic(f'{unique}.good')
    async with connected(url) as transport, foreign(url) as channel:
        exchange = await channel.declare_exchange(f'{unique}.bad', 'fanout', durable=True)
        view = await transport.intake(IntakeSpec())
        refused = await view.bind([bad, good])
        await publish(transport, f'{unique}.good', b'arrives')
        assert bodies(await view.fetch(1)) == [b'arrives']
        await exchange.delete()
        assert not await view.bind([bad])

    assert list(refused) == [bad]
    assert isinstance(refused[bad], errors.BindingRefused)
    assert 'topic' in str(refused[bad])
    assert 'fanout' in str(refused[bad])


async def test_a_group_queue_of_another_kind_is_refused(url: str, unique: str) -> None:
    async with connected(url) as transport, foreign(url) as channel:
        queue = await channel.declare_queue(f'g@{unique}', durable=True)
        spec = IntakeSpec(group='g', exchange=unique)
        with pytest.raises(errors.BindingRefused, match=f'g@{unique}'):
            await transport.intake(spec)
        await queue.delete()

        assert await transport.intake(spec)


async def test_passive_checks_and_never_declares_exchanges(url: str, unique: str) -> None:
    """What is missing is refused; what is there, of whatever kind, is used."""
    async with connected(url, declare='passive') as transport, foreign(url) as channel:
        refused = await transport.publish([Message(unique, 'a', b'')], Progress())
        with pytest.raises(errors.BindingRefused):
            await transport.intake(IntakeSpec(group='g', exchange=unique))
        await channel.declare_exchange(unique, 'topic', durable=True)
        await channel.declare_exchange(f'{unique}.dlq', 'topic', durable=True)
        await channel.declare_queue(f'g@{unique}', durable=True)
        intake = await group(transport, unique)
        await publish(transport, unique, b'1')

        assert bodies(await intake.fetch(1)) == [b'1']
    assert isinstance(refused[0], errors.BindingRefused)


async def test_unbound_patterns_stop(url: str, unique: str) -> None:
    async with connected(url) as transport:
        view = await live(transport, topic(unique, 'a.*'), topic(unique, 'z'))
        await view.unbind([topic(unique, 'a.*'), topic(unique, 'never.bound')])
        await publish(transport, unique, b'unwanted')
        await transport.publish([Message(unique, 'z', b'wanted')], Progress())

        assert bodies(await view.fetch(10)) == [b'wanted']


async def test_binding_a_vanished_queue_is_a_lost_intake(url: str, unique: str) -> None:
    async with connected(url) as transport, foreign(url) as channel:
        intake = await group(transport, unique)
        await channel.queue_delete(f'g@{unique}')
        with pytest.raises(errors.IntakeLost):
            await intake.bind([topic(unique, 'new')])


async def test_ten_thousand_live_bindings_on_two_channels(
    url: str, unique: str, rabbitmq: RabbitMQ
) -> None:
    """Added in less than a minute, each of them works."""
    count = 10_000
    async with connected(url) as transport:
        view = await transport.intake(IntakeSpec())
        started = time.monotonic()
        refused = await view.bind([topic(unique, f'a{n}.*.z') for n in range(count)])
        took_s = time.monotonic() - started
        await transport.publish([Message(unique, f'a{count - 1}.x.z', b'last')], Progress())
        assert bodies(await view.fetch(1)) == [b'last']

    assert not refused
    assert took_s < 60
