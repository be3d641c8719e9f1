"""The AMQP transport when things fail: dead brokers, half-open sockets, refused credentials."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from service_scaffold import errors
from service_scaffold.message import Message
from service_scaffold.transports.address import Address
from service_scaffold.transports.amqp import AmqpTransport
from service_scaffold.transports.amqp_client import Client
from service_scaffold.transports.base import IntakeSpec, Progress, Settings
from test.brokers.process import free_port
from test.brokers.rabbitmq import RabbitMQ
from test.brokers.required import require_broker
from test.transports.amqp_peer import (
    bodies,
    connected,
    foreign,
    group,
    live,
    numbers,
    publish,
    settings,
    take,
    topic,
)

PASSWORD = 'p@ss/w:rd%?'


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Fail unless the block ends in time."""
    started = time.monotonic()
    async with asyncio.timeout(seconds + 5):
        yield
    assert time.monotonic() - started <= seconds


@pytest.fixture(scope='module')
def secured() -> Iterator[RabbitMQ]:
    """A broker with TLS, client certificates and a password full of special characters."""
    require_broker(RabbitMQ)
    broker = RabbitMQ(tls=True, verify_client=True, user='us/er', password=PASSWORD)
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


def tls_settings(broker: RabbitMQ, url: str | None = None, **changes: str | None) -> Settings:
    """Settings with everything that the secured broker asks for, but for `changes`."""
    certificates = broker.certificates
    assert certificates is not None
    paths: dict[str, str | None] = {
        'ca': str(certificates.ca),
        'cert': str(certificates.client_certificate),
        'key': str(certificates.client_key),
    }
    return settings(url or broker.url, **(paths | changes))


async def refusal(to: Settings) -> Exception:
    """What `connect` raises."""
    transport = AmqpTransport(to)
    try:
        with pytest.raises(errors.TransportError) as caught:
            await transport.connect()
    finally:
        await transport.close()
    return caught.value


async def test_tls_and_a_password_of_special_characters(secured: RabbitMQ, unique: str) -> None:
    transport = AmqpTransport(tls_settings(secured))
    await transport.connect()
    intake = await group(transport, unique)
    await publish(transport, unique, b'x' * 300_000)
    assert len((await intake.fetch(1))[0].body) == 300_000
    await transport.close()


async def test_an_unknown_authority_is_refused(secured: RabbitMQ) -> None:
    """Without our CA the system's are asked, and do not know the broker."""
    error = await refusal(tls_settings(secured, ca=None))

    assert isinstance(error, errors.BrokerUnreachable)
    assert 'certificate' in str(error).lower()


async def test_a_missing_certificate_file_is_named(secured: RabbitMQ) -> None:
    error = await refusal(tls_settings(secured, ca='/nowhere/ca.pem'))

    assert 'cannot be read' in str(error)


async def test_refused_credentials_are_in_no_text(
    secured: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    for logger in (None, 'aiormq'):
        caplog.set_level(logging.DEBUG, logger=logger)
    url = f'amqps://us%2Fer:wrong-secret@{secured.host}:{secured.port}'
    error = await refusal(tls_settings(secured, url))

    assert isinstance(error, errors.AccessRefused)
    assert error.__cause__ is None
    for secret in ('wrong-secret', 'us/er', 'us%2Fer'):
        assert secret not in str(error)
        assert secret not in caplog.text


async def test_an_unknown_virtual_host_is_refused(rabbitmq: RabbitMQ) -> None:
    error = await refusal(settings(f'{rabbitmq.url}/no%2Fwhere'))

    assert isinstance(error, errors.AccessRefused)
    assert 'no/where' in str(error)
    assert 'guest' not in str(error)


async def test_virtual_hosts_with_special_names(rabbitmq: RabbitMQ, unique: str) -> None:
    name = f'{unique}/ü%'
    await asyncio.to_thread(rabbitmq.control, 'add_vhost', name)
    permit = ('set_permissions', '-p', name, 'guest', '.*', '.*', '.*')
    await asyncio.to_thread(rabbitmq.control, *permit)
    async with connected(f'{rabbitmq.url}/{unique}%2F%C3%BC%25') as transport:
        await publish(transport, unique, b'')
    listing = await asyncio.to_thread(rabbitmq.control, 'list_exchanges', '-p', name, 'name')
    await asyncio.to_thread(rabbitmq.control, 'delete_vhost', name)

    assert unique in listing.split()


async def test_what_the_credentials_forbid_is_said_for_it_alone(
    rabbitmq: RabbitMQ, unique: str
) -> None:
    """Exchanges, queues and publishing that are not allowed, beside those that are."""
    user, password = unique, 'secret'
    await asyncio.to_thread(rabbitmq.control, 'add_user', user, password)
    permit = ('set_permissions', user, f'^({unique}\\.ok.*|service.*|g@.*)', '.*', '.*')
    await asyncio.to_thread(rabbitmq.control, *permit)
    url = f'amqp://{user}:{password}@{rabbitmq.host}:{rabbitmq.port}'
    forbidden, allowed = topic(f'{unique}.no'), topic(f'{unique}.ok')
    async with connected(url) as transport:
        view = await transport.intake(IntakeSpec())
        refused = await view.bind([forbidden, allowed])
        messages = [Message(f'{unique}.no', 'a', b''), Message(f'{unique}.ok', 'a', b'yes')]
        unsent = await transport.publish(messages, Progress())
        assert bodies(await view.fetch(1)) == [b'yes']
        with pytest.raises(errors.AccessRefused) as caught:
            await transport.intake(IntakeSpec(group='g', exchange=f'{unique}.no'))
    await asyncio.to_thread(rabbitmq.control, 'delete_user', user)

    assert list(refused) == [forbidden]
    assert list(unsent) == [0]
    for error in (refused[forbidden], unsent[0], caught.value):
        assert isinstance(error, errors.AccessRefused)
        assert f"user '{user}'" not in str(error)


async def test_nobody_listens() -> None:
    async with within(2):
        error = await refusal(settings(f'amqp://127.0.0.1:{free_port()}'))

    assert isinstance(error, errors.BrokerUnreachable)


async def test_the_second_host_answers_for_the_first(rabbitmq: RabbitMQ) -> None:
    url = f'amqp://guest:guest@127.0.0.1:{free_port()},127.0.0.1:{rabbitmq.port}'
    async with connected(url) as transport:
        assert not transport.lost.done()


async def test_a_silent_host_is_given_up(rabbitmq: RabbitMQ) -> None:
    """Something accepts, and says nothing."""
    rabbitmq.proxy.half_open()
    async with within(2):
        error = await refusal(settings(rabbitmq.proxied_url, connect_timeout_s=0.5))

    assert isinstance(error, errors.BrokerUnreachable)


async def test_a_host_that_speaks_otherwise() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 400 Bad Request\r\n\r\n')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    async with within(2):
        error = await refusal(settings(f'amqp://127.0.0.1:{port}', connect_timeout_s=1))
    server.close()

    assert isinstance(error, errors.BrokerUnreachable)


def test_a_heartbeat_that_is_no_number_is_a_configuration_error() -> None:
    with pytest.raises(errors.ConfigError, match='heartbeat'):
        AmqpTransport(Settings(Address.parse('amqp://host?heartbeat=often')))


def test_another_way_to_log_in_is_a_configuration_error() -> None:
    with pytest.raises(errors.ConfigError, match=r'auth .* plain, external'):
        AmqpTransport(Settings(Address.parse('amqp://host?auth=token')))


async def test_connecting_can_be_cancelled(rabbitmq: RabbitMQ) -> None:
    rabbitmq.proxy.half_open()
    transport = AmqpTransport(settings(rabbitmq.proxied_url))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await transport.connect()
    async with within(2):
        await transport.close()


async def test_before_and_after_the_connection_calls_fail_at_once(rabbitmq: RabbitMQ) -> None:
    transport = AmqpTransport(settings(rabbitmq.url))
    message = Message('x', 'a', b'')
    with pytest.raises(errors.ConnectionLost):
        await transport.publish([message], Progress())
    await transport.connect()
    await transport.close()
    await transport.close()
    with pytest.raises(errors.ConnectionLost):
        await transport.publish([message], Progress())
    assert not transport.lost.done(), 'closing is no loss'


async def test_a_killed_broker_is_noticed_by_everyone(rabbitmq: RabbitMQ, unique: str) -> None:
    """Fetch, publish, reply and `lost` all end at once; what was unsettled comes again."""
    async with connected(rabbitmq.url) as transport:
        intake = await group(transport, unique)
        view = await live(transport, topic(unique))
        await publish(transport, unique, *numbers(3))
        deliveries = await take(intake, 3)
        await take(view, 3)
        # RabbitMQ notes new quorum queues on disk half a second late, and a kill before that
        # leaves it with a queue that never answers again.
        await asyncio.sleep(1)
        fetching = [asyncio.create_task(source.fetch(1)) for source in (intake, view)]
        await asyncio.sleep(0)
        await asyncio.to_thread(rabbitmq.kill)
        async with within(2):
            assert isinstance(await transport.lost, errors.ConnectionLost)
            results = await asyncio.gather(*fetching, return_exceptions=True)
            request = Message(unique, 'a', b'', reply_to='somewhere')
            with pytest.raises(errors.ConnectionLost):
                await transport.reply(request, request)
        assert [type(result) for result in results] == [errors.ConnectionLost] * 2
        assert not intake.alive(deliveries[0])
        intake.settle(deliveries)
        intake.requeue(deliveries)
        await intake.close()
        async with within(2):
            await transport.close()
    await asyncio.to_thread(rabbitmq.start)
    async with connected(rabbitmq.url) as transport:
        again = await group(transport, unique)
        assert sorted(bodies(await take(again, 3))) == numbers(3)


async def test_a_stopped_broker_says_why(rabbitmq: RabbitMQ) -> None:
    async with connected(rabbitmq.url) as transport:
        await asyncio.to_thread(rabbitmq.stop)
        reason = await asyncio.wait_for(transport.lost, 5)

    assert 'CONNECTION_FORCED' in str(reason)
    assert 'guest' not in str(reason)


async def test_confirms_until_the_loss_are_counted(rabbitmq: RabbitMQ, unique: str) -> None:
    """A loss amid a long publish raises at once; what was confirmed is really there."""
    confirming = asyncio.Event()
    progress = Progress(confirming.set)
    messages = [Message(unique, 'a', body) for body in numbers(20_000)]
    async with connected(rabbitmq.proxied_url) as transport:
        await (await group(transport, unique)).close()
        publishing = asyncio.create_task(transport.publish(messages, progress))
        await confirming.wait()
        rabbitmq.proxy.drop_connections()
        async with within(2):
            with pytest.raises(errors.ConnectionLost):
                await publishing
    async with connected(rabbitmq.url) as transport, foreign(rabbitmq.url) as channel:
        queue = await channel.declare_queue(f'g@{unique}', passive=True)

        assert 0 < progress.confirmed <= (queue.declaration_result.message_count or 0)
        assert len(progress.unconfirmed(20_000)) == 20_000 - progress.confirmed
        assert progress.phase in ('send', 'confirm')


async def test_half_open_is_noticed_in_three_heartbeats(rabbitmq: RabbitMQ, unique: str) -> None:
    async with connected(f'{rabbitmq.proxied_url}?heartbeat=1') as transport:
        intake = await group(transport, unique)
        fetching = asyncio.create_task(intake.fetch(1))
        rabbitmq.proxy.half_open()
        async with within(3 * (1 + 1)):
            with pytest.raises(errors.ConnectionLost):
                await fetching
            assert isinstance(await transport.lost, errors.ConnectionLost)
        async with within(2):
            await transport.close()


async def test_an_idle_connection_stays(rabbitmq: RabbitMQ) -> None:
    """Heartbeats alone keep it, both ways, for longer than the watchdog's patience."""
    async with connected(f'{rabbitmq.url}?heartbeat=1') as transport:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4.5):
                await asyncio.shield(transport.lost)
        await publish(transport, 'idle', b'')


async def test_a_request_without_an_answer_fails_alone(rabbitmq: RabbitMQ, unique: str) -> None:
    """The connection and its other channels are as good as before, once the broker answers."""
    async with connected(rabbitmq.proxied_url, connect_timeout_s=1.0) as transport:
        view = await live(transport, topic(unique))
        rabbitmq.proxy.half_open()
        with pytest.raises(errors.BindingRefused, match='no answer'):
            await transport.intake(IntakeSpec(group='g', exchange=unique))
        rabbitmq.proxy.restore()
        intake = await group(transport, unique)
        await publish(transport, unique, b'1')

        assert bodies(await intake.fetch(1)) == bodies(await view.fetch(1)) == [b'1']


@pytest.mark.parametrize('size', [10, 20_000_000])
async def test_everything_can_be_cancelled_while_half_open(
    rabbitmq: RabbitMQ, unique: str, size: int
) -> None:
    """Callers leave in time whatever the buffers hold, and so does `close`."""
    async with connected(rabbitmq.proxied_url) as transport:
        intake = await group(transport, unique)
        await publish(transport, unique, *numbers(3))
        intake.settle(await take(intake, 1))
        rabbitmq.proxy.half_open()
        message = Message(unique, 'a', b'x' * size)
        for work in (
            lambda: transport.publish([message], Progress()),
            lambda: transport.dead_letter(message),
            lambda: intake.bind([topic(unique, 'new')]),
            lambda: transport.intake(IntakeSpec()),
            lambda: transport.reply(message.replace(reply_to='x'), message),
            lambda: transport.open_replies(lambda _: None),
            lambda: intake.pause(),
        ):
            async with within(1.5):  # copying 20 MB takes its time, too
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await work()
        async with within(1.7):
            await intake.close()
        async with within(2):
            await transport.close()


async def test_a_broker_that_blocks_publishers_costs_the_limit_only(
    unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Under a memory alarm a publish waits, may be cancelled, and goes on after the alarm."""
    require_broker(RabbitMQ)
    with RabbitMQ() as broker:
        async with connected(broker.url) as transport, connected(broker.url) as listener:
            intake = await group(listener, unique)
            await publish(transport, unique, b'1')
            alarm = 'set_vm_memory_high_watermark'
            await asyncio.to_thread(broker.control, alarm, 'absolute', '1MB')
            async with within(0.7):
                progress = Progress()
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await transport.publish([Message(unique, 'a', b'2')], progress)
            assert progress.phase == 'confirm'
            assert not transport.lost.done()
            intake.settle(await take(intake, 1))
            await asyncio.to_thread(broker.control, alarm, 'absolute', '1GB')
            await publish(transport, unique, b'3')

            assert bodies(await take(intake, 2)) == [b'2', b'3']


@pytest.mark.parametrize('oddity', ['time', 'routing', 'header'])
async def test_undecodable_properties_end_one_connection_only(
    rabbitmq: RabbitMQ, unique: str, oddity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the client library cannot read is left out at the second try; the body arrives."""
    monkeypatch.setattr(Client, 'careful', False)
    async with connected(rabbitmq.url) as transport:
        intake = await group(transport, unique)
        await asyncio.to_thread(_publish_oddly, rabbitmq, unique, oddity)
        with pytest.raises(errors.ConnectionLost):
            async with asyncio.timeout(5):
                await intake.fetch(1)
    async with connected(rabbitmq.url) as transport:
        intake = await group(transport, unique)
        await publish(transport, unique, b'next')
        odd, plain = await take(intake, 2)
        message = transport.envelope(odd)

    assert (message.body, plain.body) == (b'odd', b'next')
    assert message.routing == ('a.??' if oddity == 'routing' else 'a.b')


def _publish_oddly(broker: RabbitMQ, exchange: str, oddity: str) -> None:
    """Publish what a client of another language may publish, byte by byte."""

    def frame(kind: int, channel: int, payload: bytes) -> bytes:
        return struct.pack('>BHI', kind, channel, len(payload)) + payload + b'\xce'

    def short(text: bytes) -> bytes:
        return bytes([len(text)]) + text

    def method(number: int, name: int, arguments: bytes, channel: int = 1) -> bytes:
        return frame(1, channel, struct.pack('>HH', number, name) + arguments)

    routing = b'a.\xff\xfe' if oddity == 'routing' else b'a.b'
    flags, properties = 0, b''
    if oddity == 'time':  # nanoseconds
        flags, properties = 64, struct.pack('>Q', 1_763_720_000_000_000_000)
    if oddity == 'header':  # its name is not UTF-8
        table = short(b'\xff') + b'I' + struct.pack('>i', 1)
        flags, properties = 8192, struct.pack('>I', len(table)) + table
    header = struct.pack('>HHQH', 60, 0, 3, flags) + properties
    login = b'\0guest\0guest'
    start_ok = b'\0\0\0\0' + short(b'PLAIN') + struct.pack('>I', len(login)) + login
    start_ok += short(b'en_US')
    steps = [
        b'AMQP\x00\x00\x09\x01',
        method(10, 11, start_ok, 0),
        method(10, 31, struct.pack('>HIH', 2047, 131072, 0), 0)
        + method(10, 40, short(b'/') + b'\0\0', 0),
        method(20, 10, b'\0'),
        method(60, 40, b'\0\0' + short(exchange.encode()) + short(routing) + b'\0')
        + frame(2, 1, header)
        + frame(3, 1, b'odd')
        + method(20, 40, b'\0\0\0\0\0\0\0'),
    ]
    with socket.create_connection((broker.host, broker.port), timeout=5) as connection:
        for step in steps:
            connection.sendall(step)
            connection.recv(65536)
