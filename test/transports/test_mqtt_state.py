"""Latest values and presence over MQTT: what is on the wire, and what a broker may do."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from service_scaffold import errors, transports
from service_scaffold.testing.conformance.connections import (
    Connections,
    Seen,
    following,
    presence_of,
    state_of,
)
from service_scaffold.testing.conformance.inbox import eventually
from service_scaffold.transports.address import Address
from service_scaffold.transports.base import Settings
from service_scaffold.transports.mqtt_presence import keepalive_s
from test.brokers.mosquitto import Mosquitto
from test.transports.mqtt_peer import PUBLISH, Peer, packet


class TestOnTheWire:
    """With other clients of the same broker."""

    @pytest_asyncio.fixture
    async def connections(self, mosquitto: Mosquitto, unique: str):
        made = Connections(mosquitto.url, unique, 15.0)
        yield made
        await made.close()

    async def tool(self, mosquitto: Mosquitto, *arguments: str) -> None:
        """Publish a retained message as a tool would."""
        command = ['mosquitto_pub', '-h', mosquitto.host, '-p', str(mosquitto.port), '-q', '1']
        process = await asyncio.create_subprocess_exec(*command, '-r', *arguments)
        assert await asyncio.wait_for(process.wait(), 5) == 0

    async def test_a_value_is_a_retained_message_under_its_key(
        self, mosquitto, connections, unique
    ):
        """Dots are no levels; an empty message deletes."""
        transport = await connections.open()
        await self.tool(mosquitto, '-t', f'{unique}.state/mill.1/temp', '-m', '21.5')
        async with following(transport) as changes:
            assert await changes.snapshot() == {'mill.1/temp': b'21.5'}
            await self.tool(mosquitto, '-t', f'{unique}.state/mill.1/temp', '-n')
            assert await changes.next() == ('mill.1/temp', None)

    async def test_what_has_other_levels_is_no_value(self, mosquitto, connections, unique):
        await self.tool(mosquitto, '-t', f'{unique}.state/mill', '-m', 'x')
        await self.tool(mosquitto, '-t', f'{unique}.state/mill/a/b', '-m', 'x')
        async with following(await connections.open()) as changes:
            assert await changes.snapshot() == {}

    async def test_a_late_will_of_an_older_life_does_not_stay(self, mosquitto, connections, unique):
        """The next sign of life of the one that is there takes its place."""
        connections = Connections(mosquitto.url, unique, 3.0)
        owner = connections.make('owner')
        presence_of(owner).announce('mill', b'2')
        await connections.connect(owner)
        seen = Seen().watch(await connections.open('watcher'))
        await seen.until('mill', ('present', b'2'))

        await self.tool(mosquitto, '-t', f'{unique}.presence/mill', '-m', '-1')
        late = Seen().watch(await connections.open('late'))
        await late.last('mill', ('present', b'2'))

        assert seen.of('mill') == [('present', b'2')]
        await connections.close()


class TestBrokers:
    """With a scripted broker."""

    async def connected(self, peer: Peer, limit_s: float = 5.0):
        settings = Settings(Address.parse(peer.url), namespace='n', connect_timeout_s=limit_s)
        transport = transports.open_transport(settings)
        await transport.connect()
        return transport

    def message(self, topic: str, body: bytes, *, retained: bool = False) -> bytes:
        return packet(
            PUBLISH | retained, len(topic).to_bytes(2) + topic.encode() + bytes([0]) + body
        )

    async def mark_of(self, peer: Peer) -> str:
        """Return the topic of the reader's marker."""
        await eventually(lambda: bool(peer.published), 5)
        return peer.published[0][2 : 2 + int.from_bytes(peer.published[0][:2])].decode()

    async def test_what_is_stored_may_come_after_what_is_newer(self):
        """Before the end of the snapshot or behind it: it is passed over."""
        async with Peer() as peer:
            transport = await self.connected(peer)
            async with following(transport) as changes:
                reading = asyncio.ensure_future(changes.snapshot())
                mark = await self.mark_of(peer)
                peer.send(self.message('n.state/mill/a', b'new'))
                peer.send(self.message('n.state/mill/a', b'old', retained=True))
                peer.send(self.message(mark, b''))
                assert await reading == {'mill/a': b'new'}

                peer.send(self.message('n.state/mill/a', b'old', retained=True))
                peer.send(self.message('n.state/mill/b', b'late', retained=True))
                peer.send(self.message('n.state/mill/a', b'newer'))
                assert await changes.take(2) == [('mill/b', b'late'), ('mill/a', b'newer')]
            await transport.close()

    @pytest.mark.parametrize(
        ('answers', 'why'),
        [
            ({}, 'not the end'),
            ({'puback': None}, 'not the end'),
            ({'suback': None}, 'not answered'),
        ],
        ids=['no marker', 'no confirm', 'no subscription'],
    )
    async def test_an_end_that_does_not_come_is_waited_for_within_limits(self, answers, why):
        """Mosquitto drops its own answers, too, when a client's queue is full."""
        async with Peer(**answers) as peer:
            transport = await self.connected(peer, 0.3)
            async with following(transport) as changes:
                with pytest.raises(errors.ConnectionLost, match=why):
                    await asyncio.wait_for(changes.next(), 5)
            await transport.close()

    async def test_a_refused_marker_is_told(self):
        async with Peer(puback=0x87) as peer:
            transport = await self.connected(peer)
            async with following(transport) as changes:
                with pytest.raises(errors.BindingRefused, match='takes nothing on'):
                    await changes.next()
            await transport.close()

    async def test_a_refused_subscription_is_told(self):
        async with Peer(suback=0x87) as peer:
            transport = await self.connected(peer)
            async with following(transport) as changes:
                with pytest.raises(errors.AccessRefused):
                    await changes.next()
            await transport.close()

    async def test_refused_values_are_told_by_position(self):
        async with Peer(puback=0x87) as peer:
            transport = await self.connected(peer)
            with pytest.raises(errors.PublishError, match=r'n\.state/mill/a') as refused:
                await state_of(transport).put_many([('mill/a', b'1'), ('mill/b', b'2')])
            assert refused.value.failed == (0, 1)
            await transport.close()


def test_the_keep_alive_lets_the_broker_notice_in_one_lease():
    assert [keepalive_s(lease_s) for lease_s in (15.0, 4.0, 0.5)] == [10, 2, 1]
