"""The AMQP transport on a real broker: envelopes, requests and replies."""

from __future__ import annotations

import asyncio
import shutil

import aio_pika
import pytest

from service_scaffold import errors
from service_scaffold.clock import ManualClock
from service_scaffold.message import Message
from service_scaffold.transports.base import Progress
from test.brokers.rabbitmq import RabbitMQ
from test.transports.amqp_peer import (
    amqp_publish,
    connected,
    foreign,
    group,
    publish,
    take,
)


@pytest.fixture
def url(rabbitmq: RabbitMQ) -> str:
    """The URL of the session's broker."""
    return rabbitmq.url


async def test_an_envelope_survives_the_way_through_the_broker(url: str, unique: str) -> None:
    """Every attribute arrives as it was sent, the ordering key and parts of a second included."""
    sent = Message(
        unique,
        'tank.level',
        'é'.encode(),
        key='tank-4',
        headers={'unit': 'ß'},
        message_id='m-1',
        correlation_id='c-1',
        reply_to='answers',
        content_type='text/plain',
        timestamp=1763720000.125,
    )
    async with connected(url) as transport:
        intake = await group(transport, unique, 'tank.*')
        assert not await transport.publish([sent], Progress())
        delivery = (await intake.fetch(1))[0]
        message = transport.envelope(delivery)

    names = [name for name in Message.__slots__ if name != 'exchange_type']
    assert {n: getattr(message, n) for n in names} == {n: getattr(sent, n) for n in names}
    assert delivery.key == 'tank-4'
    assert delivery.special, 'an answer is asked for'


@pytest.mark.parametrize('header', ['x-deadline', 'x-replay-group'])
async def test_deadlines_and_replays_are_marked(url: str, unique: str, header: str) -> None:
    async with connected(url) as transport:
        intake = await group(transport, unique)
        messages = [
            Message(unique, 'a', b'', headers={header: '1'}),
            Message(unique, 'a', b'', headers={'other': '1'}),
        ]
        await transport.publish(messages, Progress())

        assert [d.special for d in await take(intake, 2)] == [True, False]


async def test_body_sizes_from_nothing_to_many_frames(url: str, unique: str) -> None:
    sizes = [0, 1, 131_063, 131_064, 131_065, 1_000_000]
    async with connected(url) as transport:
        intake = await group(transport, unique)
        await publish(transport, unique, *(b'x' * size for size in sizes))

        assert [len(d.body) for d in await take(intake, len(sizes))] == sizes


@pytest.mark.skipif(not shutil.which('amqp-publish'), reason='amqp-tools are not installed')
async def test_a_foreign_message_without_properties(url: str, unique: str) -> None:
    """No id, no time, no content type: the envelope has an id and the time of arrival."""
    async with connected(url, clock=ManualClock(1000.0)) as transport:
        intake = await group(transport, unique)
        await asyncio.to_thread(amqp_publish, url, unique, 'a.b', 'hello')
        delivery = (await intake.fetch(1))[0]
        message = transport.envelope(delivery)

    assert (message.body, message.routing, message.key) == (b'hello', 'a.b', 'a.b')
    assert (message.content_type, message.headers, message.timestamp) == (None, {}, 1000.0)
    assert message.message_id


async def test_foreign_headers_become_text(url: str, unique: str) -> None:
    """Numbers, bytes, nothing, tables and arrays are readable strings."""
    headers: aio_pika.abc.HeadersType = {
        'i': 7,
        'b': bytearray(b'\xff'),
        'n': None,
        't': {'k': [1, 'x']},
        'y': True,
        'f': 0.5,
        'x-key': 9,
    }
    async with connected(url) as transport, foreign(url) as channel:
        intake = await group(transport, unique)
        exchange = await channel.get_exchange(unique)
        await exchange.publish(aio_pika.Message(b'', headers=headers, timestamp=1763720000), 'a')
        message = transport.envelope((await intake.fetch(1))[0])

    assert message.headers == {
        'i': '7',
        'b': '\\xff',
        'n': '',
        't': '{"k": [1, "x"]}',
        'y': 'true',
        'f': '0.5',
    }
    assert message.key == '9'
    assert message.timestamp == 1763720000.0


async def test_requests_and_replies(url: str, unique: str) -> None:
    """The answer comes with the id of its request; a vanished asker disturbs nobody."""
    answers: asyncio.Queue[Message] = asyncio.Queue()
    async with connected(url) as responder:
        intake = await group(responder, unique)
        async with connected(url) as asker:
            reply_to = await asker.open_replies(answers.put_nowait)
            request = Message(unique, 'a', b'?', reply_to=reply_to, correlation_id='c')
            assert not await asker.publish([request], Progress(), mandatory=True)
            received = responder.envelope((await intake.fetch(1))[0])
            await responder.reply(received, Message(unique, 'a', b'!', content_type='text/plain'))
            answer = await asyncio.wait_for(answers.get(), 5)
        await responder.reply(received, Message(unique, 'a', b'too late'))

        assert not responder.lost.done()
    assert (answer.body, answer.correlation_id, answer.content_type) == (b'!', 'c', 'text/plain')


async def test_a_reply_callback_that_fails_is_only_logged(
    url: str, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    answers: asyncio.Queue[str | None] = asyncio.Queue()

    def on_reply(message: Message) -> None:
        answers.put_nowait(message.correlation_id)
        raise LookupError('nobody asked')

    async with connected(url) as transport:
        reply_to = await transport.open_replies(on_reply)
        for number in ('1', '2'):
            request = Message(unique, 'a', b'', reply_to=reply_to, correlation_id=number)
            await transport.reply(request, Message(unique, 'a', b''))
        assert [await asyncio.wait_for(answers.get(), 5) for _ in range(2)] == ['1', '2']
    assert 'nobody asked' in caplog.text


async def test_a_lost_reply_queue_is_a_lost_connection(url: str, rabbitmq: RabbitMQ) -> None:
    """Requests under way would else wait for answers that cannot come."""
    async with connected(url) as transport:
        reply_to = await transport.open_replies(lambda message: None)
        queue = f'rabbit_misc:r(<<"/">>, queue, <<"{reply_to}">>)'
        delete = f'rabbit_amqqueue:delete_immediately_by_resource([{queue}]).'
        await asyncio.to_thread(rabbitmq.control, 'eval', delete)

        assert isinstance(await asyncio.wait_for(transport.lost, 5), errors.ConnectionLost)
