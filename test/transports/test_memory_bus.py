"""What tests ask of the memory bus: what was published, and is it all done."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold.journal.base import NewRecord
from service_scaffold.journal.memory import MemoryJournal
from service_scaffold.journal.memory_broker import discard_broker
from service_scaffold.message import Message
from service_scaffold.transports import memory
from test.transports.memory_clients import bodies, connected, fetch, group, live, publish


@pytest.fixture
def bus():
    """The bus of `memory://test`, new for each test, and recording."""
    bus = memory.broker('test')
    bus.recording = True
    yield bus
    discard_broker('test')


@pytest.fixture
async def client(bus):
    return await connected()


class TestPublished:
    async def test_it_is_what_was_published_in_order(self, bus, client):
        await publish(client, 'tank.a', 'pump.a', 'tank.b')
        await client.dead_letter(Message('plant', 'tank.a', b'dead'))

        assert [m.routing for m in bus.published('plant', 'tank.*')] == ['tank.a', 'tank.b']
        assert [m.exchange for m in bus.published()] == ['plant'] * 3 + ['plant.dlq']

    async def test_records_of_a_journal_count(self, bus, client):
        journal = MemoryJournal(bus.broker)
        await journal.connect()

        await (await journal.producer()).produce([NewRecord('orders', b'1', b'k')])

        assert [(m.routing, m.body) for m in bus.published('orders')] == [('k', b'1')]

    async def test_nothing_is_remembered_unless_it_records(self, bus, client):
        bus.recording = False

        await publish(client, 'a')

        assert bus.published() == []
        with pytest.raises(RuntimeError, match='recording'):
            await bus.expect()


class TestExpect:
    async def test_it_does_not_matter_who_is_first(self, bus, client):
        expecting = asyncio.ensure_future(bus.expect('plant', 'b'))
        await publish(client, 'a', 'b')

        assert (await expecting).routing == 'b'
        assert (await bus.expect('plant', 'a')).routing == 'a'

    async def test_each_message_is_expected_once(self, bus, client):
        await publish(client, 'a', 'a')
        first, second = await bus.expect(), await bus.expect()

        assert first.message_id != second.message_id
        with pytest.raises(TimeoutError, match=r'plant/a within 0\.01 s'):
            await bus.expect('plant', 'a', timeout_s=0.01)

    async def test_a_condition_chooses(self, bus, client):
        await publish(client, 'a', 'b')

        assert (await bus.expect(where=lambda m: m.body == b'b')).routing == 'b'


class TestJoin:
    async def test_it_waits_until_group_deliveries_are_settled(self, bus, client):
        intake = await group(client)
        await publish(client, *'abc')
        joining = asyncio.ensure_future(bus.join(1))

        taken = await fetch(intake, 2)
        intake.settle(taken)
        rest = await fetch(intake)
        assert not joining.done()
        intake.settle(rest)

        await joining

    async def test_it_waits_until_live_deliveries_are_settled(self, bus, client):
        view = await live(client)
        await publish(client, 'a')
        taken = await fetch(view)
        joining = asyncio.ensure_future(bus.join(1))
        await asyncio.sleep(0)
        assert not joining.done()

        view.settle(taken)

        await joining

    async def test_it_names_what_is_left(self, bus, client):
        await (await group(client)).close()
        view = await live(client)
        await publish(client, 'a', 'b')
        await fetch(view)

        with pytest.raises(TimeoutError, match=r'2 in queue g@plant, 2 in live views at events'):
            await bus.join(0.01)

    async def test_it_does_not_wait_for_dead_letters_or_for_nothing(self, bus, client):
        await bus.join(1)

        await client.dead_letter(Message('plant', 'a', b''))

        await bus.join(1)

    async def test_a_live_view_that_ends_has_nothing_left(self, bus, client):
        view = await live(client)
        await publish(client, 'a')
        joining = asyncio.ensure_future(bus.join(1))
        await asyncio.sleep(0)

        await view.close()

        await joining


async def test_a_foreign_client_publishes_raw_bytes_whatever_is_broken(bus, client):
    intake = await group(client)
    bus.fail_next_publish()

    await bus.publish('plant', 'a', b'{"a":', content_type='application/json', reply_to='r')

    (delivery,) = await fetch(intake)
    assert bodies([delivery]) == ['{"a":']
    assert client.envelope(delivery).reply_to == 'r'
