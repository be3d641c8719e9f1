"""The optional parts of the port on memory: latest values, and who is there."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold import errors
from service_scaffold.journal.memory_broker import discard_broker
from service_scaffold.transports import memory, open_transport
from service_scaffold.transports.address import Address
from service_scaffold.transports.base import Settings
from test.transports.memory_clients import connected


@pytest.fixture
def bus():
    """The bus of `memory://test`, new for each test."""
    yield memory.broker('test')
    discard_broker('test')


@pytest.fixture
async def client(bus):
    return await connected()


async def next_of(following):
    async with asyncio.timeout(1):
        return await anext(following)


class TestState:
    async def test_a_snapshot_comes_first_then_none_then_each_change(self, client):
        await client.state.put('mill/a', b'1')
        await client.state.put('mill/b', b'2')
        await client.state.put('mill/a', None)
        other = await connected()
        following = other.state.snapshot_then_follow()

        assert [await next_of(following), await next_of(following)] == [('mill/b', b'2'), None]
        for value in (b'3', b'4', None):
            await client.state.put('mill/b', value)

        changes = [await next_of(following) for _ in range(3)]
        assert changes == [('mill/b', b'3'), ('mill/b', b'4'), ('mill/b', None)]
        await following.aclose()

    async def test_a_change_during_the_snapshot_is_not_missed(self, client):
        await client.state.put('mill/a', b'1')
        following = client.state.snapshot_then_follow()
        first = await next_of(following)

        await client.state.put('mill/a', b'2')

        rest = [await next_of(following), await next_of(following)]
        assert [first, *rest] == [('mill/a', b'1'), None, ('mill/a', b'2')]
        await following.aclose()

    async def test_a_follower_notices_a_lost_connection(self, bus, client):
        following = client.state.snapshot_then_follow()
        assert await next_of(following) is None
        waiting = asyncio.ensure_future(next_of(following))
        await asyncio.sleep(0)

        bus.drop_connections()

        with pytest.raises(errors.ConnectionLost):
            await waiting

    async def test_values_outlive_every_connection(self, bus, client):
        await client.state.put('mill/a', b'1')
        bus.drop_connections()

        following = (await connected()).state.snapshot_then_follow()

        assert await next_of(following) == ('mill/a', b'1')
        await following.aclose()

    async def test_a_follower_that_falls_too_far_behind_is_cut_off(self, bus, client):
        bus.spaces['assets'].state.limit = 2
        following = client.state.snapshot_then_follow()
        assert await next_of(following) is None

        for value in (b'1', b'2', b'3'):
            await client.state.put('mill/a', value)

        assert [await next_of(following), await next_of(following)] == [
            ('mill/a', b'1'),
            ('mill/a', b'2'),
        ]
        with pytest.raises(errors.ConnectionLost, match='fell behind'):
            await next_of(following)


class TestPresence:
    @pytest.fixture
    async def seen(self, client):
        """What a watcher on another connection is told."""
        seen: list[tuple[str, bytes]] = []
        client.presence.watch(lambda id, payload: seen.append((id, payload)))
        return seen

    async def announced(self, *ids: str):
        transport = open_transport(Settings(Address.parse('memory://test'), role='owner'))
        for id in ids:
            transport.presence.announce(id, b'last words of ' + id.encode())
        await transport.connect()
        return transport

    async def lose_owners(self, bus):
        bus.drop_connections(lambda who: who.startswith('owner'))
        await asyncio.sleep(0)

    async def test_a_lost_connection_is_told_with_the_announced_payload(self, bus, seen):
        await self.announced('mill', 'drill')

        await self.lose_owners(bus)

        assert seen == [('mill', b'last words of mill'), ('drill', b'last words of drill')]

    async def test_a_clean_close_and_a_leave_are_no_loss(self, bus, seen):
        closed, left = await self.announced('mill'), await self.announced('drill')

        await closed.close()
        await left.presence.leave('drill')
        await self.lose_owners(bus)

        assert seen == []

    async def test_who_watches_later_is_told_of_the_lost_ones_who_have_not_come_back(
        self, bus, client
    ):
        await self.announced('mill', 'drill')
        await self.lose_owners(bus)
        await self.announced('drill')
        seen: list[str] = []

        client.presence.watch(lambda id, payload: seen.append(id))
        await asyncio.sleep(0)

        assert seen == ['mill']

    async def test_the_loss_of_an_older_connection_says_nothing_of_its_successor(self, bus, seen):
        older = await self.announced('mill')
        successor = open_transport(Settings(Address.parse('memory://test'), role='new'))
        successor.presence.announce('mill', b'new')
        await successor.connect()

        await self.lose_owners(bus)

        assert older.lost.done()
        assert seen == []

    async def test_who_has_gone_watches_no_more(self, bus, client, seen):
        await client.close()
        await self.announced('mill')

        await self.lose_owners(bus)

        assert seen == []

    async def test_a_crash_during_an_outage_is_told_after_it(self, bus, client):
        await self.announced('mill')
        bus.down()
        bus.up()
        seen: list[str] = []
        watcher = open_transport(Settings(Address.parse('memory://test')))
        watcher.presence.watch(lambda id, payload: seen.append(id))

        await watcher.connect()
        await asyncio.sleep(0)

        assert seen == ['mill']
