"""Publishing over AMQP: confirms, refusals, dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import aio_pika
import pytest

from service_scaffold import errors
from service_scaffold.message import Message
from service_scaffold.transports.base import Progress
from test.brokers.rabbitmq import RabbitMQ
from test.transports.amqp_peer import (
    bodies,
    connected,
    foreign,
    group,
    live,
    numbers,
    publish,
    take,
    topic,
)


@pytest.fixture
def url(rabbitmq: RabbitMQ) -> str:
    """The URL of the session's broker."""
    return rabbitmq.url


async def test_an_exchange_of_another_type_refuses_one_position(url: str, unique: str) -> None:
    """The other messages of the call are confirmed, on the same connection."""
    async with connected(url) as transport:
        await live(transport, topic(unique))
        progress = Progress()
        messages = [
            Message(unique, 'a', b'', exchange_type='fanout'),
            Message(unique, 'a', b''),
        ]
        refused = await transport.publish(messages, progress)

    assert list(refused) == [0]
    assert 'fanout' in str(refused[0])
    assert 'topic' in str(refused[0])
    assert progress.confirmed == 1
    assert progress.unconfirmed(2) == (0,)
    assert not transport.lost.done()


async def test_publish_says_how_far_it_came(url: str, unique: str) -> None:
    async with connected(url) as transport:
        confirms: list[int] = []
        progress = Progress(lambda: confirms.append(progress.confirmed))
        assert progress.phase == 'connect'
        await transport.publish([Message(unique, 'a', b'')] * 1, progress)

    assert (progress.phase, progress.confirmed, confirms[-1]) == ('confirm', 1, 1)


async def test_what_cannot_be_declared_leaves_the_phase_at_connect(url: str, unique: str) -> None:
    async with connected(url, declare='passive') as transport:
        progress = Progress()
        await transport.publish([Message(unique, 'a', b'')], progress)

    assert progress.phase == 'connect'


async def test_more_messages_than_the_window_arrive_in_order(url: str, unique: str) -> None:
    async with connected(url) as transport:
        intake = await group(transport, unique, prefetch=500)
        progress = Progress()
        messages = [Message(unique, 'a', body) for body in numbers(3000)]
        assert not await transport.publish(messages, progress)
        received: list[bytes] = []
        while len(received) < 3000:
            deliveries = await intake.fetch(500)
            intake.settle(deliveries)
            received += bodies(deliveries)

    assert received == numbers(3000)
    assert progress.confirmed == 3000


async def test_concurrent_publishers_are_all_confirmed(url: str, unique: str) -> None:
    async with connected(url) as transport:
        results = await asyncio.gather(
            *(
                transport.publish([Message(f'{unique}.{n % 70}', 'a', b'')], Progress())
                for n in range(2100)
            )
        )

    assert not any(results)


async def test_mandatory_messages_that_nobody_takes(url: str, unique: str) -> None:
    """Each position is told apart, also where two messages carry one id."""
    async with connected(url) as transport:
        await live(transport, topic(unique, 'taken'))
        messages = [
            Message(unique, 'nobody', b'', message_id='same'),
            Message(unique, 'taken', b'', message_id='same'),
            Message(unique, 'nobody', b'', message_id='same'),
        ]
        refused = await transport.publish(messages, Progress(), mandatory=True)

    assert sorted(refused) == [0, 2]
    assert all(isinstance(error, errors.NoResponder) for error in refused.values())


async def test_a_full_queue_refuses_one_position(url: str, unique: str) -> None:
    """The broker's nack is a PublishError, and the connection is as good as before."""
    arguments: dict[str, Any] = {'x-max-length': 1, 'x-overflow': 'reject-publish'}
    async with connected(url) as transport, foreign(url) as channel:
        queue = await channel.declare_queue(unique, durable=True, arguments=arguments)
        await channel.declare_exchange(unique, 'topic', durable=True)
        await queue.bind(unique, '#')
        for _ in range(2):
            refused = await transport.publish([Message(unique, 'a', b'')], Progress())

    error = refused[0]
    assert isinstance(error, errors.PublishError)
    assert error.phase == 'confirm'
    assert error.maybe_sent


async def test_a_queue_that_was_full_takes_messages_again(rabbitmq: RabbitMQ, unique: str) -> None:
    """RabbitMQ goes on refusing on the channel that it has refused on: we take another one."""
    definition = '{"max-length": 1, "overflow": "reject-publish"}'
    async with connected(rabbitmq.url) as transport, foreign(rabbitmq.url) as channel:
        await transport.publish([Message(unique, 'a', b'')], Progress())
        quorum: dict[str, Any] = {'x-queue-type': 'quorum'}
        queue = await channel.declare_queue(unique, durable=True, arguments=quorum)
        await queue.bind(unique, '#')
        await _control(rabbitmq, 'set_policy', unique, unique, definition, '--apply-to', 'queues')
        async with asyncio.timeout(20):
            while not await transport.publish([Message(unique, 'a', b'')], Progress()):
                pass

        await _control(rabbitmq, 'clear_policy', unique)
        await queue.purge()
        async with asyncio.timeout(20):
            while await transport.publish([Message(unique, 'a', b'')], Progress()):
                pass


async def _control(rabbitmq: RabbitMQ, *arguments: str) -> None:
    await asyncio.to_thread(rabbitmq.control, *arguments)


@pytest.fixture
def choosy(rabbitmq: RabbitMQ) -> Iterator[str]:
    """The session's broker, which takes two megabytes in one message for a while."""
    name = 'rabbit, max_message_size'
    usual = rabbitmq.control('eval', f'{{ok, Limit}} = application:get_env({name}), Limit.')
    rabbitmq.control('eval', f'application:set_env({name}, 2000000).')
    yield rabbitmq.url
    rabbitmq.control('eval', f'application:set_env({name}, {usual.strip()}).')


async def test_too_large_messages_fail_alone(choosy: str, unique: str) -> None:
    """The broker closes the channel for one, and all that is unconfirmed on it suffers: nobody is
    told anything wrong, nothing is lost, and nothing comes twice."""
    sent = [b'x' * 2_100_000 if number in (2, 6) else b'%d' % number for number in range(9)]
    async with connected(choosy) as transport:
        intake = await group(transport, unique)
        progress = Progress()
        refused, _ = await asyncio.gather(
            transport.publish([Message(unique, 'a.b', body) for body in sent], progress),
            publish(transport, unique, *[b'other'] * 5),
        )
        got = bodies(await take(intake, 12))

        assert list(refused) == [2, 6]
        assert all(isinstance(error, errors.PublishError) for error in refused.values())
        assert not any(error.maybe_sent for error in refused.values())
        assert progress.unconfirmed(9) == (2, 6)
        assert [body for body in got if body != b'other'] == [b'0', b'1', *sent[3:6], *sent[7:]]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await intake.fetch(1)


async def test_a_deleted_exchange_is_declared_again(url: str, unique: str) -> None:
    """The message that finds it missing is the first to arrive in the new one."""
    async with connected(url) as transport, foreign(url) as channel:
        await publish(transport, unique, b'before')
        await channel.exchange_delete(unique)
        await publish(transport, unique, b'after')

        assert await channel.get_exchange(unique)


async def test_properties_that_do_not_fit_refuse_one_position(url: str, unique: str) -> None:
    async with connected(url) as transport:
        intake = await group(transport, unique)
        messages = [
            Message(unique, 'a', b'0', message_id='x' * 300),
            Message(unique, 'a', b'1'),
            Message(unique, 'a', b'2', headers={'big': 'x' * 200_000}),
        ]
        refused = await transport.publish(messages, Progress())
        assert bodies(await intake.fetch(9)) == [b'1']

    assert sorted(refused) == [0, 2]


async def test_dead_letters_keep_body_routing_and_headers(url: str, unique: str) -> None:
    """A plain subscription to the store sees them, after a restart of everything too."""
    letter = Message(unique, 'tank.level', b'\xff\x00', headers={'x-death-reason': 'rejected'})
    async with connected(url) as transport:
        await transport.dead_letter(letter)
        view = await live(transport, topic(f'{unique}.dlq'))
        await transport.dead_letter(letter)
        seen = transport.envelope((await view.fetch(1))[0])
    async with foreign(url) as channel:
        queue = await channel.get_queue(f'{unique}.dlq')
        kept = await queue.get(no_ack=True)

    assert (seen.routing, seen.body, seen.headers) == (letter.routing, letter.body, letter.headers)
    assert (kept.routing_key, kept.body) == ('tank.level', b'\xff\x00')
    assert kept.delivery_mode == aio_pika.DeliveryMode.PERSISTENT


async def test_no_text_of_an_error_keeps_a_dead_letter_out(url: str, unique: str) -> None:
    """An exception may name a file whose bytes are no UTF-8."""
    letter = Message(unique, 'a', b'', headers={'x-death-error': 'no file \udcff'})
    async with connected(url) as transport:
        view = await live(transport, topic(f'{unique}.dlq'))
        await transport.dead_letter(letter)
        seen = transport.envelope((await view.fetch(1))[0])

    assert seen.headers == {'x-death-error': r'no file \udcff'}


@pytest.mark.parametrize('victim', ['queue', 'exchange'])
async def test_a_deleted_dead_letter_store_is_made_again(
    url: str, unique: str, victim: str
) -> None:
    async with connected(url) as transport, foreign(url) as channel:
        await transport.dead_letter(Message(unique, 'a', b'1'))
        queue = await channel.get_queue(f'{unique}.dlq')
        await queue.purge()
        delete = channel.queue_delete if victim == 'queue' else channel.exchange_delete
        await delete(queue.name)
        await transport.dead_letter(Message(unique, 'a', b'2'))
        kept = await queue.get(no_ack=True)

    assert kept.body == b'2'


async def test_a_dead_letter_store_that_cannot_be_used(url: str, unique: str) -> None:
    async with connected(url) as transport, foreign(url) as channel:
        await channel.declare_exchange(f'{unique}.dlq', 'fanout', durable=True)
        with pytest.raises(errors.TransportError, match='dlq'):
            await transport.dead_letter(Message(unique, 'a', b''))
