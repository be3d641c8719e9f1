"""The MQTT transport on brokers that do what Mosquitto does not."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from service_scaffold import errors
from service_scaffold.message import Message
from service_scaffold.transports.address import Address
from service_scaffold.transports.base import Binding, IntakeSpec, Progress, Settings
from service_scaffold.transports.mqtt import MqttTransport
from test.transports.mqtt_peer import DISCONNECT, PUBACK, PUBLISH, Peer, packet

WAIT_S = 5.0
KEEPALIVE_1_S = b'\x13\0\1'


def transport_to(peer, **settings):
    return MqttTransport(Settings(Address.parse(peer.url), **settings))


def event(topic, identifiers, flags=0b0010, packet_id=1):
    properties = b''.join(b'\x0b' + bytes([number]) for number in identifiers)
    head = len(topic).to_bytes(2) + topic + packet_id.to_bytes(2)
    return packet(PUBLISH | flags, head + bytes([len(properties)]) + properties + b'body')


@pytest.mark.parametrize(
    ('code', 'error'),
    [
        (0x86, errors.AccessRefused),
        (0x87, errors.AccessRefused),
        (0x84, errors.BrokerUnreachable),
        (0x88, errors.BrokerUnreachable),
    ],
)
async def test_refused_connection(code, error):
    """The broker's reason decides whether it is the credentials."""
    async with Peer(connack=(code, b'')) as peer:
        transport = transport_to(peer)
        with pytest.raises(error, match=r'127\.0\.0\.1'):
            await transport.connect()
        await transport.close()


async def test_silent_broker_is_noticed():
    """One and a half times the keep-alive without a byte is the end (here the broker's, 1 s)."""
    async with Peer(connack=(0, KEEPALIVE_1_S)) as peer:
        transport = transport_to(peer)
        await transport.connect()
        began = time.monotonic()

        reason = await asyncio.wait_for(transport.lost, WAIT_S)

        assert isinstance(reason, errors.ConnectionLost)
        assert 1.4 < time.monotonic() - began < 4
        assert 'silent' in str(reason)
        await transport.close()


async def test_one_copy_with_all_identifiers_is_one_delivery():
    """Some brokers send one copy for all filters that match."""
    async with Peer() as peer:
        transport = transport_to(peer)
        await transport.connect()
        live = await transport.intake(IntakeSpec())
        await live.bind([Binding('plant', 'topic', pattern) for pattern in ('#', 'a.*', 'a.b')])

        peer.send(event(b'plant/a/b', [1, 2, 3]))
        peer.send(event(b'plant/a/c', [1, 2]))

        found = list(await live.fetch(10))
        while len(found) < 2:
            found += await live.fetch(10)
        assert [delivery.routing for delivery in found] == ['a.b', 'a.c']
        await transport.close()


async def test_broker_without_identifiers():
    """Its copies are all delivered: better twice than never."""
    async with Peer(connack=(0, b'\x29\0')) as peer:
        transport = transport_to(peer)
        await transport.connect()
        group = await transport.intake(IntakeSpec(group='g', exchange='plant'))
        await group.bind([Binding('plant', 'topic', '#')])

        peer.send(event(b'plant/a', []))

        [delivery] = await asyncio.wait_for(group.fetch(10), WAIT_S)
        assert (delivery.routing, delivery.binding) == ('a', None)
        await transport.close()


@pytest.mark.parametrize(
    ('code', 'error'), [(0x87, errors.AccessRefused), (0x9E, errors.BindingRefused)]
)
async def test_refused_subscription(code, error):
    """It is told for the binding, and the connection stays."""
    async with Peer(suback=code) as peer:
        transport = transport_to(peer)
        await transport.connect()
        live = await transport.intake(IntakeSpec())
        binding = Binding('plant', 'topic', 'a')

        refused = await live.bind([binding])

        assert type(refused[binding]) is error
        assert 'plant/a' in str(refused[binding])
        peer.suback = 1
        assert not await live.bind([binding])
        peer.suback = code
        with pytest.raises(error):
            await transport.open_replies(print)
        await transport.close()


async def test_refused_message():
    """A failure is an error at that position; nobody listening only where an answer is wanted."""
    async with Peer(puback=0x97) as peer:
        transport = transport_to(peer)
        await transport.connect()
        message = Message('plant', 'a', b'')

        failed = await transport.publish([message], Progress())

        assert isinstance(failed[0], errors.PublishError)
        assert (failed[0].phase, failed[0].maybe_sent) == ('confirm', False)
        with pytest.raises(errors.PublishError):
            await transport.dead_letter(message)
        peer.puback = 0x10
        assert not await transport.publish([message], Progress())
        assert isinstance(
            (await transport.publish([message], Progress(), mandatory=True))[0], errors.NoResponder
        )
        await transport.dead_letter(message)
        await transport.close()


async def test_window_of_the_broker_is_kept():
    """No more messages are on their way than the broker takes."""
    async with Peer(connack=(0, b'\x21\0\3'), puback=None) as peer:
        transport = transport_to(peer)
        await transport.connect()
        progress = Progress()

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await transport.publish([Message('plant', 'a', b'')] * 10, progress)

        assert len(peer.published) == 3
        assert progress.phase == 'send'
        blocked = Progress()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await transport.publish([Message('plant', 'a', b'')], blocked)
        assert blocked.phase == 'connect'
        await transport.close()


async def test_confirm_that_never_comes_ends_the_connection():
    """The place in the window is lost otherwise; that the broker says other things is no excuse."""
    async with Peer(connack=(0, KEEPALIVE_1_S), puback=None) as peer:
        transport = transport_to(peer, publish_timeout_s=0.5)
        await transport.connect()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await transport.publish([Message('plant', 'a', b'')], Progress())
        peer.puback = 0
        began = time.monotonic()

        async with asyncio.timeout(2 * WAIT_S):
            while not transport.lost.done():
                with contextlib.suppress(errors.ConnectionLost):  # it is not silent
                    await transport.publish([Message('plant', 'a', b'')], Progress())
                await asyncio.sleep(0.05)

        assert time.monotonic() - began > 1.4
        assert 'has not confirmed a message for' in str(transport.lost.result())
        await transport.close()


async def test_confirms_that_come_one_by_one_are_waited_for():
    """The window may be full for as long as it takes, while it moves."""
    async with Peer(connack=(0, KEEPALIVE_1_S), puback=None) as peer:
        transport = transport_to(peer, publish_timeout_s=0.5)
        await transport.connect()
        messages = [Message('plant', 'a', b'')] * 5
        publishing = asyncio.ensure_future(transport.publish(messages, Progress()))

        for packet_id in range(1, 6):  # 4 s in all; one alone may take 1.5 s
            await asyncio.sleep(0.8)
            peer.send(packet(PUBACK, packet_id.to_bytes(2) + b'\0\0'))

        assert await publishing == {}
        assert not transport.lost.done()
        await transport.close()


@contextlib.asynccontextmanager
async def flooded(keepalive_s=15):
    """A group of prefetch 4, and a peer that sends it 40 messages without a look at that."""
    # The keep-alive, and no identifiers.
    async with Peer(connack=(0, b'\x13\0' + bytes([keepalive_s]) + b'\x29\0')) as peer:
        transport = transport_to(peer)
        await transport.connect()
        group = await transport.intake(IntakeSpec(group='g', exchange='plant', prefetch=4))
        await group.bind([Binding('plant', 'topic', '#')])
        for number in range(1, 41):
            peer.send(event(b'plant/a', [], packet_id=number))
        yield peer, group
        await transport.close()


async def all_that_come(group):
    """Fetch without settling, until nothing comes any more."""
    found = []
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(0.2):
                found += await group.fetch(100)
    return found


async def settle_all(group):
    """Settle whatever comes, for ever."""
    while True:
        group.settle(await group.fetch(100))


async def test_broker_beyond_our_window_is_held_back():
    """Twice the prefetch is taken in, and the rest when that is settled, in order."""
    async with flooded() as (peer, group):
        fresh = await all_that_come(group)
        for _ in range(5):
            assert len(fresh) == 8
            group.settle(fresh[:4])
            assert not await all_that_come(group)
            group.settle(fresh[4:])
            fresh = await all_that_come(group)
        assert not fresh

        await group.close()
        assert peer.acknowledged == list(range(1, 41))


async def test_broker_that_is_held_back_gets_pings():
    """While we do not read, its silence says nothing; afterwards it does again."""
    async with flooded(keepalive_s=1) as (peer, group):
        found = await all_that_come(group)
        before = peer.pings
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(group.fetch(1), 4)
        assert peer.pings - before >= 2

        group.settle(found)
        with pytest.raises(errors.IntakeLost, match=r'silent|Keep alive'):
            await asyncio.wait_for(settle_all(group), WAIT_S)


async def test_broker_that_is_held_back_answers():
    """A new subscription is granted all the same."""
    async with flooded() as (_, group):
        await all_that_come(group)

        granting = group.bind([Binding('plant', 'topic', 'b')])

        assert not await asyncio.wait_for(granting, WAIT_S)


async def test_broker_that_is_held_back_sees_us_go():
    """The good-bye is not the one that ends after a second by force."""
    async with flooded() as (_, group):
        await all_that_come(group)
        began = time.monotonic()

        await group.close()

        assert time.monotonic() - began < 0.9


async def test_too_large_message_fails_alone():
    """A broker ends the connection for a packet that is larger than it takes."""
    async with Peer(connack=(0, b'\x27\0\0\1\0')) as peer:
        transport = transport_to(peer)
        await transport.connect()

        failed = await transport.publish(
            [Message('plant', 'a', b'x' * 300), Message('plant', 'a', b'x')], Progress()
        )

        assert list(failed) == [0]
        await transport.close()


async def test_disconnect_says_that_the_session_was_taken():
    """Newer brokers say so themselves."""
    async with Peer() as peer:
        transport = transport_to(peer)
        await transport.connect()
        group = await transport.intake(IntakeSpec(group='g', exchange='plant'))
        await group.bind([Binding('plant', 'topic', '#')])

        peer.send(packet(DISCONNECT, b'\x8e\0'))

        with pytest.raises(errors.SessionTakenOver):
            await asyncio.wait_for(group.fetch(1), WAIT_S)
        assert not transport.lost.done()
        await transport.close()


@pytest.mark.parametrize('data', [b'\x30\x01\0', b'\x34\x06\0\1t\0\1\0', b'\xff\xff\xff\xff\xff'])
async def test_malformed_packets_end_the_connection(data):
    """What is no MQTT is not guessed at."""
    async with Peer() as peer:
        transport = transport_to(peer)
        await transport.connect()

        peer.send(data)

        assert isinstance(await asyncio.wait_for(transport.lost, WAIT_S), errors.ConnectionLost)
        await transport.close()


async def test_next_host_is_tried():
    """Of several hosts the first that answers is used."""
    async with Peer() as peer:
        url = peer.url.replace('mqtt://', 'mqtt://127.0.0.1:9,')
        transport = MqttTransport(Settings(Address.parse(url)))
        await transport.connect()

        assert not await transport.publish([Message('plant', 'a', b'')], Progress())
        await transport.close()
