"""The presence part of the port: who is there, and who has gone without saying so."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

import pytest

from service_scaffold import errors
from service_scaffold.testing.conformance.broker import BrokerControl
from service_scaffold.testing.conformance.case import Case, needs
from service_scaffold.testing.conformance.connections import (
    Connections,
    Seen,
    following,
    presence_of,
)


class WhoIsThere(Case):
    """Announcements, watchers, and the end of both.

    That a killed process is lost within one and a half leases is for a test with processes.

    Attributes:
        lease_s: The lease of all connections here.
    """

    lease_s: ClassVar[float] = 2.0

    async def test_who_announces_itself_is_seen_by_all(self, connections: Connections) -> None:
        """By those who watch already, and by those who come later."""
        early = Seen().watch(await connections.open('early'))
        owner = connections.make('owner')
        presence_of(owner).announce('mill', b'1')
        await connections.connect(owner)
        await early.until('mill', ('present', b'1'))

        late = connections.make('late')
        seen = Seen().watch(late)
        await connections.connect(late)
        await presence_of(late).caught_up()
        await seen.until('mill', ('present', b'1'))

    async def test_nobody_is_there(self, connections: Connections) -> None:
        """That is known, too, and soon."""
        transport = connections.make()
        seen = Seen().watch(transport)
        await connections.connect(transport)
        async with asyncio.timeout(5):
            await presence_of(transport).caught_up()
        assert seen.calls == []

    async def test_who_lives_is_not_lost(self, connections: Connections) -> None:
        """For longer than its lease, and announced later than connected."""
        seen = Seen().watch(await connections.open('watcher'))
        owner = await connections.open('owner')
        presence_of(owner).announce('mill', b'1')
        presence_of(owner).announce('drill', b'')
        await asyncio.sleep(2.5 * self.lease_s)
        assert seen.of('mill') == [('present', b'1')]
        assert seen.of('drill') == [('present', b'')]

    async def test_a_watcher_does_not_judge_by_its_own_lease(
        self, connections: Connections
    ) -> None:
        """Whoever gives signs of life seldom is not lost to those who give them often."""
        hasty = connections.make('watcher', lease_s=1.0)
        seen = Seen().watch(hasty)
        await connections.connect(hasty)
        owner = connections.make('owner', lease_s=12.0)
        presence_of(owner).announce('mill', b'1')
        await connections.connect(owner)
        await seen.until('mill', ('present', b'1'))
        await asyncio.sleep(2.5)

        late = connections.make('late', lease_s=1.0)
        found = Seen().watch(late)
        await connections.connect(late)
        await presence_of(late).caught_up()
        assert seen.of('mill') == found.of('mill') == [('present', b'1')]

    async def test_leaving_is_no_loss(self, connections: Connections) -> None:
        """Nor is closing; nobody is told, nor finds them later."""
        seen = Seen().watch(await connections.open('watcher'))
        leaver, closer = connections.make('leaver'), connections.make('closer')
        presence_of(leaver).announce('mill', b'1')
        presence_of(closer).announce('drill', b'2')
        await connections.connect(leaver)
        await connections.connect(closer)
        await seen.until('mill', ('present', b'1'))
        await seen.until('drill', ('present', b'2'))

        await presence_of(leaver).leave('mill')
        await closer.close()
        late = connections.make('late')
        found = Seen().watch(late)
        await connections.connect(late)
        await presence_of(late).caught_up()
        await asyncio.sleep(1.6 * self.lease_s)

        assert len(seen.calls) == 2
        assert found.calls == []

    async def test_another_payload_is_another_life(self, connections: Connections) -> None:
        """It is told, and the earlier one is not called lost."""
        seen = Seen().watch(await connections.open('watcher'))
        owner = await connections.open('owner')
        presence_of(owner).announce('mill', b'1')
        await seen.until('mill', ('present', b'1'))
        presence_of(owner).announce('mill', b'2')
        await seen.until('mill', ('present', b'1'), ('present', b'2'))
        await asyncio.sleep(1.6 * self.lease_s)
        assert len(seen.calls) == 2

    async def test_who_has_gone_watches_no_more(self, connections: Connections) -> None:
        """A closed connection calls nobody."""
        watcher = await connections.open('watcher')
        seen = Seen().watch(watcher)
        other = Seen().watch(await connections.open('other'))
        await watcher.close()
        owner = await connections.open('owner')
        presence_of(owner).announce('mill', b'1')
        await other.until('mill', ('present', b'1'))
        assert seen.calls == []

    async def test_one_callback_that_fails_disturbs_nobody(self, connections: Connections) -> None:
        """Two watches of one connection."""
        watcher = await connections.open('watcher')

        def fail(id: str, payload: bytes) -> None:
            raise RuntimeError('not today')

        presence_of(watcher).watch(fail, fail)
        seen = Seen().watch(watcher)
        owner = await connections.open('owner')
        presence_of(owner).announce('mill', b'1')
        await seen.until('mill', ('present', b'1'))

    @pytest.mark.parametrize('id', ['', 'a/b', 'a+', ' a', 'a\n'])
    async def test_what_is_no_id_is_refused(self, connections: Connections, id: str) -> None:
        """At once, also before there is a connection."""
        with pytest.raises(ValueError, match='key'):
            presence_of(connections.make()).announce(id, b'')

    @needs('faults')
    async def test_who_does_not_come_back_after_an_outage_is_lost(
        self, connections: Connections, broker: BrokerControl
    ) -> None:
        """The other does, with the same payload; and who comes later is told the same."""
        lost, back = connections.make('owner'), connections.make('owner')
        presence_of(lost).announce('mill', b'1')
        presence_of(back).announce('drill', b'2')
        await connections.connect(lost)
        await connections.connect(back)

        await asyncio.to_thread(broker.stop)
        for transport in (lost, back):
            async with asyncio.timeout(10):
                await transport.lost
            await transport.close()
        await asyncio.to_thread(broker.start)
        again = connections.make('owner')
        presence_of(again).announce('drill', b'2')
        await connections.connect(again)

        for _ in range(2):
            watcher = connections.make('watcher')
            seen = Seen().watch(watcher)
            await connections.connect(watcher)
            await seen.last('mill', ('lost', b'1'), 5 * self.lease_s)
            assert seen.of('mill').count(('lost', b'1')) == 1
            assert seen.of('drill')[-1:] == [('present', b'2')]
            await watcher.close()

    @needs('faults')
    async def test_who_was_lost_and_comes_back_is_told(
        self, connections: Connections, broker: BrokerControl
    ) -> None:
        """To whoever was told of the loss."""
        owner = connections.make('owner')
        presence_of(owner).announce('mill', b'1')
        await connections.connect(owner)
        await asyncio.to_thread(broker.stop)
        async with asyncio.timeout(10):
            await owner.lost
        await owner.close()
        await asyncio.to_thread(broker.start)
        watcher = connections.make('watcher')
        seen = Seen().watch(watcher)
        await connections.connect(watcher)
        await seen.last('mill', ('lost', b'1'), 5 * self.lease_s)

        again = connections.make('owner')
        presence_of(again).announce('mill', b'1')
        await connections.connect(again)

        await seen.last('mill', ('present', b'1'), 5)

    @needs('faults')
    async def test_closing_does_not_wait_for_a_silent_broker(
        self, connections: Connections, broker: BrokerControl
    ) -> None:
        """Two seconds at most, with all that a connection can be used for."""
        transport = connections.make('owner')
        presence_of(transport).announce('mill', b'1')
        seen = Seen().watch(transport)
        await connections.connect(transport)
        await seen.until('mill', ('present', b'1'))
        async with following(transport) as changes:
            assert await changes.next() is None
            await asyncio.to_thread(broker.half_open)

            began = time.monotonic()
            await transport.close()

            assert time.monotonic() - began < 2.5  # 2, and what a busy machine takes
            with pytest.raises(errors.ConnectionLost):
                await changes.next()
