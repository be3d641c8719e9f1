"""Faults of the memory bus: its clients meet what clients of a real broker meet."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold import errors
from service_scaffold.clock import ManualClock
from service_scaffold.journal.memory_broker import discard_broker
from service_scaffold.message import Message
from service_scaffold.transports import memory, open_transport
from service_scaffold.transports.address import Address
from service_scaffold.transports.base import IntakeSpec, Progress, Settings
from test.transports.memory_clients import ALL, bodies, connected, fetch, group, live, publish


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def bus(clock):
    """The bus of `memory://test`, new for each test."""
    yield memory.broker('test', clock=clock)
    discard_broker('test')


@pytest.fixture
async def client(bus):
    return await connected()


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class TestDown:
    async def test_connecting_is_refused_until_it_is_up(self, bus):
        bus.down()
        transport = open_transport(Settings(Address.parse('memory://test')))
        with pytest.raises(errors.BrokerUnreachable, match='memory://test'):
            await transport.connect()

        bus.up()

        await connected()

    async def test_everything_on_a_lost_connection_fails(self, bus, client):
        intake, view = await group(client), await live(client)
        fetching = asyncio.ensure_future(fetch(intake))
        await turns()

        bus.down()

        assert isinstance(await asyncio.wait_for(client.lost, 1), errors.ConnectionLost)
        for step in (
            fetching,
            fetch(view),
            view.bind([ALL]),
            client.intake(IntakeSpec()),
            client.dead_letter(Message('plant', 'a', b'')),
            client.open_replies(print),
            client.reply(Message('plant', 'a', b'', reply_to='x'), Message('', '', b'')),
            client.state.put('mill/key', b'1'),
        ):
            with pytest.raises(errors.ConnectionLost):
                await step

    async def test_a_publish_on_a_lost_connection_fails_before_anything_is_sent(self, bus, client):
        bus.drop_connections()
        progress = Progress()

        with pytest.raises(errors.ConnectionLost):
            await client.publish([Message('plant', 'a', b'')], progress)

        assert progress.phase == 'connect'

    async def test_what_was_not_settled_comes_again_after_the_reconnect(self, bus, client):
        intake = await group(client)
        await publish(client, 'a', 'b')
        taken = await fetch(intake, 1)
        epoch = intake.epoch

        bus.drop_connections()

        assert intake.epoch != epoch
        assert not intake.alive(taken[0])
        intake.settle(taken)
        assert bodies(await fetch(again := await group(await connected()))) == ['a']
        assert bodies(await fetch(again)) == ['b']

    async def test_only_the_chosen_connections_are_lost(self, bus, client):
        other = await connected(role='publisher')

        bus.drop_connections(lambda who: who.startswith('publisher'))

        assert (other.lost.done(), client.lost.done()) == (True, False)

    async def test_closing_is_no_loss_and_may_be_repeated(self, bus, client):
        await client.close()
        await client.close()
        bus.drop_connections()

        assert not client.lost.done()
        with pytest.raises(errors.ConnectionLost):
            await publish(client, 'a')


class TestHalfOpen:
    async def test_nothing_is_answered_and_nobody_is_told(self, bus, client):
        intake = await group(client)
        await publish(client, 'a')
        bus.half_open()
        progress = Progress()
        connecting = asyncio.ensure_future(connected())
        steps = [
            connecting,
            asyncio.ensure_future(intake.fetch(1)),
            asyncio.ensure_future(client.publish([Message('plant', 'b', b'b')], progress)),
            asyncio.ensure_future(client.dead_letter(Message('plant', 'b', b'b'))),
        ]
        await turns()
        assert not any(step.done() for step in steps)
        assert not client.lost.done()
        assert progress.phase == 'confirm'

        bus.up()

        for step in steps[1:]:
            with pytest.raises(errors.ConnectionLost):
                await asyncio.wait_for(step, 1)
        assert client.lost.done()
        assert bodies(await fetch(await group(await connecting))) == ['a']

    async def test_settling_is_not_heard_and_the_message_comes_again(self, bus, client):
        intake = await group(client)
        await publish(client, 'a', 'b')
        taken = await fetch(intake)
        intake.settle(taken[:1])
        bus.half_open()
        intake.settle(taken[1:])

        bus.up()

        again = await fetch(await group(await connected()))
        assert bodies(again) == ['b']

    async def test_a_connection_attempt_may_be_given_up(self, bus):
        bus.half_open()
        connecting = asyncio.ensure_future(connected())
        await turns()
        connecting.cancel()
        await asyncio.wait([connecting])

        bus.up()
        await turns()

        assert bus.broker.network.connections == ()


class TestSlow:
    async def test_publish_and_delivery_take_the_time_of_the_clock(self, bus, client, clock):
        intake = await group(client)
        bus.slow(2)
        publishing = asyncio.ensure_future(publish(client, 'a'))
        await clock.advance(1.9)
        assert not publishing.done()
        await clock.advance(0.1)
        assert publishing.done()

        fetching = asyncio.ensure_future(intake.fetch(1))
        await clock.advance(1.9)
        assert not fetching.done()
        await clock.advance(0.1)

        assert bodies(fetching.result()) == ['a']

    async def test_it_ends(self, bus, client):
        bus.slow(2)
        bus.slow(0)

        assert not await publish(client, 'a')


class TestRefusals:
    async def test_the_next_messages_are_refused_and_the_connection_stays(self, bus, client):
        intake = await group(client)
        bus.fail_next_publish(2)

        failures = await publish(client, *'abc')

        assert {p: type(e) for p, e in failures.items()} == dict.fromkeys(
            (0, 1), errors.PublishError
        )
        assert failures[0].phase == 'confirm'
        assert bodies(await fetch(intake)) == ['c']
        assert not client.lost.done()

    async def test_one_exchange_may_refuse_everything(self, bus, client):
        bus.refuse('plant')
        messages = [Message('plant', 'a', b''), Message('other', 'a', b'')]
        assert [*await client.publish(messages, Progress())] == [0]

        bus.accept('plant')

        assert not await client.publish(messages, Progress())
