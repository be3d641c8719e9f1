"""The memory transport: routing, groups, live views, settlement, dead letters, replies."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from aiohttp import web

from service_scaffold import errors
from service_scaffold.clock import ManualClock
from service_scaffold.journal.base import NewRecord, TopicPartition, TopicSpec
from service_scaffold.journal.memory import MemoryJournal
from service_scaffold.journal.memory_broker import discard_broker
from service_scaffold.journal.partitioner import partition_of
from service_scaffold.message import Message
from service_scaffold.transports import memory, open_transport
from service_scaffold.transports.address import Address
from service_scaffold.transports.base import (
    Binding,
    IntakeSpec,
    Progress,
    Settings,
)
from service_scaffold.transports.memory_bus import MemoryBus
from service_scaffold.transports.memory_live import LIVE_LIMIT
from test.transports.memory_clients import (
    ALL,
    bodies,
    connected,
    fetch,
    group,
    live,
    nothing,
    publish,
)


@pytest.fixture
def bus():
    """The bus of `memory://test`, new for each test."""
    yield memory.broker('test')
    discard_broker('test')


@pytest.fixture
async def client(bus):
    """A connected transport."""
    return await connected()


class TestRouting:
    async def test_a_message_reaches_every_group_and_every_live_view_once(self, client):
        one, two = await group(client, 'one'), await group(client, 'two', 'tank.*')
        view = await live(client, 'tank.*', '#.level')

        await publish(client, 'tank.level')

        assert [bodies(await fetch(i)) for i in (one, two, view)] == [['tank.level']] * 3
        assert await nothing(view)

    async def test_an_exchange_does_not_see_another_one(self, client):
        intake = await group(client)

        await client.publish([Message('other', 'tank.level', b'1')], Progress())

        assert await nothing(intake)

    @pytest.mark.parametrize(
        ('exchange_type', 'pattern', 'routing', 'found'),
        [
            ('direct', 'tank.*', 'tank.level', False),
            ('direct', 'tank.level', 'tank.level', True),
            ('fanout', 'anything', 'tank.level', True),
        ],
    )
    async def test_exchange_types_match_differently(
        self, client, exchange_type, pattern, routing, found
    ):
        intake = await client.intake(IntakeSpec('g', 'plant', exchange_type))
        await intake.bind([Binding('plant', exchange_type, pattern)])

        await publish(client, routing, exchange_type=exchange_type)

        assert await nothing(intake) is not found

    async def test_messages_to_nobody_are_accepted(self, client):
        progress = Progress()

        failures = await client.publish([Message('plant', 'tank', b'1')], progress)

        assert not failures
        assert (progress.confirmed, progress.phase) == (1, 'confirm')

    async def test_unbound_patterns_deliver_nothing_more(self, client):
        one, view = await group(client), await live(client)

        await one.unbind([ALL])
        await view.unbind([ALL])
        await publish(client, 'tank')

        assert await nothing(one)
        assert await nothing(view)

    async def test_publish_never_runs_a_consumer_and_always_yields(self, client):
        turns: list[str] = []
        asyncio.get_running_loop().call_soon(turns.append, 'turn')

        await publish(client, 'tank')

        assert turns == ['turn']


class TestEnvelope:
    async def test_everything_arrives_as_it_was_sent(self, client):
        intake = await group(client)
        sent = Message(
            'plant',
            'tank.level',
            b'\x00\xff',
            key='tank-1',
            headers={'x-a': 'ä'},
            message_id='m1',
            correlation_id='c1',
            reply_to='r1',
            content_type='text/plain',
            timestamp=12.5,
        )
        await client.publish([sent], Progress())

        (delivery,) = await fetch(intake)
        found = client.envelope(delivery)

        assert found is not sent
        assert {n: getattr(found, n) for n in Message.__slots__} == {
            n: getattr(sent, n) for n in Message.__slots__
        }
        assert (delivery.exchange, delivery.routing, delivery.key) == (
            'plant',
            'tank.level',
            'tank-1',
        )

    async def test_every_delivery_has_its_own_headers(self, client):
        one, two = await group(client, 'one'), await group(client, 'two')
        await publish(client, 'tank', headers={'x-a': '1'})

        first = client.envelope((await fetch(one))[0])
        first.headers['x-a'] = 'changed'

        assert client.envelope((await fetch(two))[0]).headers == {'x-a': '1'}

    @pytest.mark.parametrize(
        ('options', 'special'),
        [
            ({}, False),
            ({'headers': {'x-other': '1'}}, False),
            ({'headers': {'x-deadline': '1'}}, True),
            ({'headers': {'x-replay-group': 'g'}}, True),
            ({'reply_to': 'r'}, True),
        ],
    )
    async def test_requests_deadlines_and_replays_are_special(self, client, options, special):
        intake = await group(client)

        await publish(client, 'tank', **options)

        assert (await fetch(intake))[0].special is special


class TestGroups:
    async def test_members_share_and_each_holds_at_most_its_prefetch(self, client):
        one, two = await group(client, prefetch=2), await group(client, prefetch=2)

        await publish(client, *'abcde')

        first, second = await fetch(one), await fetch(two)
        assert (bodies(first), bodies(second)) == (['a', 'b'], ['c', 'd'])
        assert await nothing(one)
        one.settle(first[:1])
        assert bodies(await fetch(one)) == ['e']

    async def test_no_member_takes_everything_while_others_have_room(self, client):
        one, two = await group(client), await group(client)
        await publish(client, *map(str, range(20)))

        assert len(await fetch(one)) == 10
        assert len(await fetch(two)) == 5
        await two.pause()

        assert len(await fetch(one)) == 5

    async def test_settling_wakes_a_member_that_waits_for_its_window(self, client):
        intake = await group(client, prefetch=1)
        await publish(client, 'a', 'b')
        first = await fetch(intake)
        fetching = asyncio.ensure_future(fetch(intake))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        intake.settle(first)

        assert bodies(await fetching) == ['b']

    async def test_waiting_members_are_woken_in_turn(self, client):
        members = [await group(client, prefetch=1) for _ in range(3)]
        fetching = [asyncio.ensure_future(fetch(member)) for member in members]
        await asyncio.sleep(0)

        await publish(client, *'abc')

        taken = [bodies(deliveries) for deliveries in await asyncio.gather(*fetching)]
        assert sorted(taken) == [['a'], ['b'], ['c']]

    async def test_unsettled_deliveries_of_a_closed_member_go_to_the_head_in_order(self, client):
        one = await group(client)
        await publish(client, *'abcd')
        taken = await fetch(one, 3)
        one.settle(taken[1:2])

        two = await group(client)
        await one.close()

        again = await fetch(two) + await fetch(two)
        assert bodies(again) == ['a', 'c', 'd']
        assert [client.envelope(d).redelivered for d in again] == [True, True, False]

    async def test_what_comes_back_from_several_members_is_in_its_old_order(self, client):
        one, two = await group(client, prefetch=2), await group(client, prefetch=2)
        await publish(client, *'abcd')
        await fetch(one)
        await fetch(two)

        await two.close()
        await one.close()

        assert bodies(await fetch(await group(client))) == [*'abcd']

    async def test_requeued_deliveries_come_again(self, client):
        intake = await group(client)
        await publish(client, *'ab')
        taken = await fetch(intake)

        intake.requeue(taken[:1])

        assert not intake.alive(taken[0])
        again = await fetch(intake)
        assert (bodies(again), intake.alive(again[0])) == (['a'], True)

    async def test_a_stale_delivery_does_not_settle_its_successor(self, client):
        intake = await group(client)
        await publish(client, 'a')
        taken = await fetch(intake)
        intake.requeue(taken)
        again = await fetch(intake)

        intake.settle(taken)

        assert intake.alive(again[0])

    async def test_the_queue_keeps_messages_while_no_member_is_there(self, client):
        await (await group(client)).close(forget=True)

        await publish(client, 'a')

        assert bodies(await fetch(await group(client))) == ['a']

    async def test_a_group_begins_with_its_first_binding(self, client):
        await publish(client, 'before')
        intake = await group(client)

        await publish(client, 'after')

        assert bodies(await fetch(intake)) == ['after']

    async def test_a_cancelled_fetch_loses_nothing(self, client):
        one, two = await group(client), await group(client)
        waiting = [asyncio.ensure_future(fetch(one)), asyncio.ensure_future(fetch(two))]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        messages = [Message('plant', 'a', b'a')]
        publishing = asyncio.ensure_future(client.publish(messages, Progress()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting[0].cancel()  # the first one has been woken for the message

        await publishing
        assert bodies(await waiting[1]) == ['a']

    async def test_a_paused_member_takes_nothing_and_settles(self, client):
        one = await group(client)
        await publish(client, 'a')
        taken = await fetch(one)
        await one.pause()
        await publish(client, 'b')
        assert await nothing(one)

        one.settle(taken)
        await one.close()

        assert bodies(await fetch(await group(client))) == ['b']

    async def test_a_full_queue_makes_the_publisher_wait(self, bus, client):
        intake = await group(client)
        bus.routing.queues['g@plant'].limit = 2
        progress = Progress()
        messages = [Message('plant', letter, letter.encode()) for letter in 'abc']

        publishing = asyncio.ensure_future(client.publish(messages, progress))
        for _ in range(5):
            await asyncio.sleep(0)
        assert (publishing.done(), progress.unconfirmed(3)) == (False, (2,))
        taken = await fetch(intake, 1)

        assert not await asyncio.wait_for(publishing, 1)
        assert bodies(taken + await fetch(intake)) == [*'abc']

    async def test_a_publisher_that_waits_for_room_notices_a_lost_connection(self, bus, client):
        await group(client)
        bus.routing.queues['g@plant'].limit = 1
        publishing = asyncio.ensure_future(publish(client, *'ab'))
        for _ in range(5):
            await asyncio.sleep(0)

        bus.drop_connections()

        with pytest.raises(errors.ConnectionLost):
            await asyncio.wait_for(publishing, 1)

    async def test_the_lag_is_what_waits_in_the_queue(self, client):
        intake, view = await group(client), await live(client)
        await publish(client, *'abc')
        await fetch(intake, 1)

        assert (intake.lag(), view.lag()) == (2, 3)


class TestLiveViews:
    async def test_they_see_only_what_comes_after_and_leave_nothing_behind(self, client):
        await publish(client, 'before')
        view = await live(client)
        await publish(client, 'seen')
        assert bodies(await fetch(view)) == ['seen']
        await view.close()
        await publish(client, 'missed')

        assert await nothing(await live(client))

    async def test_the_oldest_is_dropped_when_they_lag_behind(self, client, caplog):
        view = await live(client)

        await publish(client, *map(str, range(LIVE_LIMIT + 5)))

        taken = await fetch(view, LIVE_LIMIT * 2)
        assert (taken[0].routing, len(taken)) == ('5', LIVE_LIMIT)
        assert 'lag behind' in caplog.text

    async def test_a_paused_view_takes_nothing(self, client):
        view = await live(client)
        await view.pause()

        await publish(client, 'a')

        assert await nothing(view)

    async def test_one_view_may_look_at_several_exchanges(self, client):
        view = await client.intake(IntakeSpec())
        await view.bind([Binding('a', 'topic', '#'), Binding('b', 'fanout', '')])

        messages = [Message('a', 'x', b'1'), Message('b', 'y', b'2', exchange_type='fanout')]
        await client.publish(messages, Progress())

        assert bodies(await fetch(view)) == ['1', '2']


class TestExchanges:
    async def test_another_type_is_refused_and_harms_nobody_else(self, client):
        view = await live(client)
        wrong, right = Binding('plant', 'fanout', ''), Binding('other', 'topic', '#')

        refused = await view.bind([wrong, right])

        assert [*refused] == [wrong]
        assert isinstance(refused[wrong], errors.BindingRefused)
        messages = [
            Message('plant', 'a', b'a'),
            Message('plant', 'b', b'b', exchange_type='direct'),
            Message('other', 'c', b'c'),
        ]
        failures = await client.publish(messages, Progress())
        assert {p: type(e) for p, e in failures.items()} == {1: errors.BindingRefused}
        assert bodies(await fetch(view)) == ['a', 'c']

    async def test_a_deleted_exchange_ends_its_consumers_and_may_become_another_type(
        self, bus, client
    ):
        intake, view = await group(client), await live(client)
        await publish(client, 'kept')
        bus.delete_exchange('plant')

        for consumer in (intake, view):
            with pytest.raises(errors.IntakeLost):
                await fetch(consumer)
        assert not await publish(client, 'x', exchange_type='fanout')
        again = await client.intake(IntakeSpec('g', 'plant', 'fanout'))
        await again.bind([Binding('plant', 'fanout', '')])
        assert bodies(await fetch(again)) == ['kept']

    async def test_a_deleted_queue_ends_its_members_and_is_made_anew(self, bus, client):
        intake, other = await group(client), await group(client, 'other')
        await publish(client, 'gone')
        bus.delete_group('g', 'plant')

        with pytest.raises(errors.IntakeLost, match='g@plant'):
            await fetch(intake)
        again = await group(client)
        await publish(client, 'new')

        assert bodies(await fetch(again)) == ['new']
        assert bodies(await fetch(other)) == ['gone', 'new']

    async def test_passive_clients_need_the_exchange_to_exist(self, client):
        passive = await connected(declare='passive')
        view = await passive.intake(IntakeSpec())

        assert [*await view.bind([ALL])] == [ALL]
        assert isinstance((await publish(passive, 'a'))[0], errors.BindingRefused)
        with pytest.raises(errors.BindingRefused):
            await passive.intake(IntakeSpec('g', 'plant'))
        await publish(client, 'a')

        assert not await view.bind([ALL])
        assert not await publish(passive, 'a')


class TestRequests:
    async def test_mandatory_messages_that_nobody_takes_are_refused(self, client):
        await group(client, pattern='tank.*')
        messages = [Message('plant', routing, b'') for routing in ('tank.a', 'pump.a')]

        failures = await client.publish(messages, Progress(), mandatory=True)

        assert {p: type(e) for p, e in failures.items()} == {1: errors.NoResponder}

    async def test_answers_reach_the_one_who_asked(self, client):
        responder = await connected()
        answers: asyncio.Queue[Message] = asyncio.Queue()
        address = await client.open_replies(answers.put_nowait)
        request = Message('plant', 'ask', b'?', reply_to=address, correlation_id='c7')

        await responder.reply(request, Message('', '', b'42'))

        answer = await asyncio.wait_for(answers.get(), 1)
        assert (answer.body, answer.correlation_id) == (b'42', 'c7')

    async def test_answers_to_someone_who_has_gone_are_dropped(self, client):
        gone = await connected()
        answers: list[Message] = []
        address = await gone.open_replies(answers.append)
        await gone.close()

        await client.reply(Message('plant', 'a', b'', reply_to=address), Message('', '', b''))
        await asyncio.sleep(0)

        assert answers == []


class TestDeadLetters:
    async def test_the_store_keeps_them_and_a_plain_subscription_sees_them(self, bus, client):
        view = await client.intake(IntakeSpec())
        await view.bind([Binding('plant.dlq', 'topic', '#')])
        letter = Message('plant', 'tank', b'\xff', headers={'x-death-reason': 'rejected'})

        await client.dead_letter(letter)

        (seen,) = await fetch(view)
        (kept,) = bus.dead_letters('plant')
        for found in (client.envelope(seen), kept):
            assert (found.exchange, found.routing, found.body) == ('plant.dlq', 'tank', b'\xff')
            assert found.headers['x-death-reason'] == 'rejected'
        assert bus.purge_dead_letters('plant') == 1
        assert bus.dead_letters('plant') == bus.dead_letters('other') == []

    async def test_a_store_that_refuses_is_an_error(self, bus, client):
        bus.refuse('plant.dlq')
        with pytest.raises(errors.PublishError):
            await client.dead_letter(Message('plant', 'tank', b''))

        bus.accept('plant.dlq')
        await client.dead_letter(Message('plant', 'tank', b''))

        assert len(bus.dead_letters('plant')) == 1

    async def test_an_exchange_of_another_type_in_its_place_is_an_error(self, client):
        view = await client.intake(IntakeSpec())
        await view.bind([Binding('plant.dlq', 'direct', 'x')])

        with pytest.raises(errors.TransportError):
            await client.dead_letter(Message('plant', 'tank', b''))


class TestAddresses:
    async def test_a_name_is_shared_in_the_process(self, bus, client):
        other = await connected()

        await publish(other, 'a')

        assert other.bus is client.bus is bus is memory.broker('memory://test')

    async def test_a_bare_url_is_one_broker_for_each_application(self):
        one, two = web.Application(), web.Application()

        def bus_of(scope: object) -> MemoryBus:
            return memory.broker(Settings(Address.parse('memory://'), scope=scope))

        assert bus_of(one) is bus_of(one) is memory.broker(scope=one)
        assert bus_of(one) is not bus_of(two)
        assert bus_of(None) is not bus_of(None)

    async def test_a_broker_goes_with_its_application(self):
        app = web.Application()
        bus = weakref.ref(memory.broker(scope=app))
        del app
        gc.collect()  # the application
        gc.collect()  # what only it has held

        assert bus() is None

    def test_a_broker_serves_one_event_loop_after_another(self, bus):
        async def session() -> list[str]:
            client = await connected()
            intake = await group(client)
            waiting = asyncio.ensure_future(fetch(intake, 1))
            await asyncio.sleep(0)
            await publish(client, 'a', 'b')
            return bodies(await waiting)  # and leave without closing anything

        assert asyncio.run(session()) == ['a']
        assert asyncio.run(session()) == ['a']

    async def test_the_clock_is_that_of_the_first_client(self):
        clock = ManualClock(50.0)
        transport = open_transport(Settings(Address.parse('memory://'), clock=clock))

        assert transport.bus.broker.clock is clock


class TestOneName:
    """An exchange and a topic of one name are the same log."""

    async def test_published_events_are_records(self, bus, client):
        await publish(
            client, 'tank.level', key='tank-1', headers={'x-a': '1'}, content_type='text/plain'
        )
        journal = MemoryJournal(bus.broker)
        await journal.connect()
        where = TopicPartition('plant', partition_of('tank-1', 4))
        reader = await journal.reader()
        await reader.assign({where: 0})

        (record,) = await reader.fetch(10, 0)

        headers = dict(record.headers)
        assert (record.key, record.value, record.offset) == (b'tank-1', b'tank.level', 0)
        assert headers.pop('x-message-id')
        assert headers == {
            'x-routing-key': b'tank.level',
            'content-type': b'text/plain',
            'x-a': b'1',
        }

    async def test_a_reader_that_waits_sees_an_event_at_once(self, bus, client):
        journal = MemoryJournal(bus.broker)
        await journal.connect()
        await journal.create([TopicSpec('plant', 1)])
        reader = await journal.reader()
        await reader.assign({TopicPartition('plant', 0): 0})
        fetching = asyncio.ensure_future(reader.fetch(1, 60))
        await asyncio.sleep(0)

        await publish(client, 'a')

        assert (await asyncio.wait_for(fetching, 1))[0].value == b'a'

    @pytest.mark.parametrize(
        ('key', 'headers', 'routing', 'message_key'),
        [
            (b'k', (('x-routing-key', b'tank.a'),), 'tank.a', 'k'),
            (b'tank.b', (), 'tank.b', 'tank.b'),
            (None, (), '', ''),
        ],
    )
    async def test_records_are_events(self, bus, client, key, headers, routing, message_key):
        intake = await group(client)
        journal = MemoryJournal(bus.broker)
        await journal.connect()
        producer = await journal.producer()

        await producer.produce([NewRecord('plant', b'1', key, (*headers, ('x-a', b'2')))])

        message = client.envelope((await fetch(intake))[0])
        assert (message.routing, message.key, message.body) == (routing, message_key, b'1')
        assert message.headers == {'x-a': '2'}

    async def test_records_of_a_transaction_are_events_when_it_commits(self, bus, client):
        intake = await group(client)
        journal = MemoryJournal(bus.broker)
        await journal.connect()
        producer = await journal.producer('tx')
        for value in (b'aborted', b'committed'):
            await producer.begin()
            await producer.produce([NewRecord('plant', value)])
            assert await nothing(intake)
            await (producer.abort() if value == b'aborted' else producer.commit())

        assert bodies(await fetch(intake)) == ['committed']

    async def test_a_full_queue_holds_up_the_journal_too(self, bus, client):
        await group(client)
        bus.routing.queues['g@plant'].limit = 1
        journal = MemoryJournal(bus.broker)
        await journal.connect()
        producer = await journal.producer(timeout_s=0.01)
        await producer.produce([NewRecord('plant', b'1')])

        with pytest.raises(errors.ConnectionLost, match='full'):
            await producer.produce([NewRecord('plant', b'2')])

    async def test_declaring_an_exchange_makes_the_topic(self, bus, client):
        await group(client)

        assert len(bus.broker.topics['plant'].partitions) == 4
