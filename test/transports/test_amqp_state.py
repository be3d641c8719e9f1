"""Latest values on a real RabbitMQ: streams made by several at once, long ones, deleted ones."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from service_scaffold import errors
from service_scaffold.testing.conformance.connections import (
    Connections,
    Following,
    Seen,
    following,
    presence_of,
    state_of,
)
from service_scaffold.testing.conformance.inbox import eventually
from service_scaffold.transports.amqp_records import RecordStream
from test.brokers.rabbitmq import RabbitMQ


@pytest_asyncio.fixture
async def connections(rabbitmq: RabbitMQ, unique: str):
    made = Connections(rabbitmq.url, unique, 5.0)
    yield made
    await made.close()


async def snapshot(transport) -> dict[str, bytes]:
    async with following(transport) as changes:
        return await changes.snapshot()


async def delete(transport, queue: str) -> None:
    """Delete a queue, as an operator would."""
    client = transport._parts()[0]
    channel = await client.channel()
    await client.call(channel.queue_delete(queue))


async def test_several_may_make_the_streams_at_once(rabbitmq: RabbitMQ, unique: str):
    """RabbitMQ ends the connection of who uses one that another is just making: now and then."""
    for attempt in range(3):
        connections = Connections(rabbitmq.url, f'{unique}-{attempt}', 5.0)
        made = [connections.make(f'owner-{n}') for n in range(4)]
        for number, transport in enumerate(made):
            presence_of(transport).announce(f'mill-{number}', b'1')
        seen = Seen().watch(made[0])

        await asyncio.gather(*(connections.connect(transport) for transport in made))
        await asyncio.gather(*(state_of(t).put('mill/a', b'1') for t in made))

        for number in range(4):
            await seen.until(f'mill-{number}', ('present', b'1'))
        assert not any(transport.lost.done() for transport in made)
        await connections.close()


async def test_a_stream_is_not_used_while_another_connection_is_making_it(
    connections: Connections, unique: str
):
    maker, other = await connections.open(), await connections.open()
    await state_of(maker).put('mill/a', b'1')
    client = maker._parts()[0]
    channel = await client.channel()
    await client.call(channel.queue_declare(f'{unique}.state.making', exclusive=True))

    putting = asyncio.ensure_future(state_of(other).put('mill/a', b'2'))
    done, _ = await asyncio.wait({putting}, timeout=0.5)
    assert not done
    await delete(maker, f'{unique}.state.making')

    await asyncio.wait_for(putting, 5)


class TestRepeating:
    """Values are repeated for later readers when there have been many changes."""

    @pytest_asyncio.fixture
    async def transport(self, connections: Connections):
        made = await connections.open()
        made.state.repeat_after = 300
        return made

    async def change(self, transport, rounds: int) -> dict[str, bytes]:
        """Change ten values `rounds` times, and delete one; return what is left."""
        values = {f'mill-{n}/a': b'0' for n in range(10)}
        for number in range(rounds):
            values = dict.fromkeys(values, b'%d' % number)
            await state_of(transport).put_many(list(values.items()))
        await state_of(transport).put('mill-3/a', None)
        del values['mill-3/a']
        return values

    async def test_later_readers_begin_there(self, transport):
        values = await self.change(transport, 50)
        assert await snapshot(transport) == values
        assert transport.state.records_read > 500
        await transport.state._repeating

        assert await snapshot(transport) == values
        assert transport.state.records_read < 20

    async def test_what_changes_afterwards_counts_more(self, transport):
        values = await self.change(transport, 50)
        await snapshot(transport)
        await transport.state._repeating

        await state_of(transport).put_many(
            [('mill-0/a', b'new'), ('mill-1/a', None), ('mill-3/a', b'back')]
        )

        values |= {'mill-0/a': b'new', 'mill-3/a': b'back'}
        del values['mill-1/a']
        assert await snapshot(transport) == values
        assert transport.state.records_read < 25

    async def test_a_repeated_value_does_not_hide_a_change_made_meanwhile(
        self, transport, connections
    ):
        """The change stands before it in the stream, and is newer all the same."""
        await state_of(transport).put_many([('mill/a', b'old'), ('mill/b', b'old')])
        async with following(transport) as changes:
            await changes.snapshot()
            parts, queue = transport._parts, f'{transport.settings.namespace}.state'
            stream = RecordStream(parts, queue, 3600)
            places = RecordStream(parts, f'{queue}.places', 3600)
            reading = stream.read('first', 5.0)
            async for batch in reading:
                if not isinstance(batch, list):
                    mark = batch
                    break
            await state_of(transport).put_many([('mill/a', b'new'), ('mill/b', None)])
            await stream.append([('mill/a', b'old'), ('mill/b', b'old')], as_of=mark.offset)
            await places.append([(mark.key, b'%d' % mark.offset)])
            await reading.aclose()

            assert await changes.take(2) == [('mill/a', b'new'), ('mill/b', None)]
            await state_of(transport).put('mill/c', b'1')
            assert await changes.next() == ('mill/c', b'1'), 'followers pass repeated values over'
        assert await snapshot(await connections.open()) == {'mill/a': b'new', 'mill/c': b'1'}

    async def test_who_only_follows_has_it_done(self, transport):
        reader = Following(state_of(transport))
        assert await reader.snapshot() == {}
        values = await self.change(transport, 150)
        await reader.until(lambda change: change == ('mill-3/a', None))
        await reader.close()

        await eventually(lambda: transport.state._repeating is not None)
        await transport.state._repeating
        assert await snapshot(transport) == values
        assert transport.state.records_read < 900

    @pytest.mark.parametrize('length', [1, 1000], ids=['shorter', 'longer'])
    async def test_a_stream_that_was_made_anew_is_read_from_its_beginning(
        self, transport, connections, unique, length
    ):
        """It does not have the place yet, or something else stands there."""
        await self.change(transport, 50)
        await snapshot(transport)
        await transport.state._repeating
        await delete(transport, f'{unique}.state')

        other = await connections.open()
        other.state._limit_s = 0.5
        values = {f'mill/new{n}': b'1' for n in range(length)}
        await state_of(other).put_many(list(values.items()))
        assert await snapshot(other) == values


async def test_a_deleted_stream_ends_its_readers_and_is_made_again(
    connections: Connections, unique: str
):
    transport = await connections.open()
    async with following(transport) as changes:
        assert await changes.next() is None
        await delete(transport, f'{unique}.state')
        with pytest.raises(errors.ConnectionLost, match='deleted'):
            await changes.next()
    with pytest.raises(errors.PublishError) as refused:
        await state_of(transport).put_many([('mill/a', b'1'), ('mill/b', b'2')])
    assert refused.value.failed == (0, 1)

    await state_of(transport).put('mill/a', b'3')

    assert await snapshot(transport) == {'mill/a': b'3'}


async def test_a_slow_reader_holds_up_the_broker_and_not_the_memory(connections: Connections):
    """More than the window comes, in order, to one who takes it late."""
    writer, transport = await connections.open(), await connections.open()
    async with following(transport) as changes:
        assert await changes.next() is None
        for start in range(0, 5000, 1000):
            numbers = range(start, start + 1000)
            await state_of(writer).put_many([('mill/a', b'%d' % n) for n in numbers])
        values = [change[1] for change in await changes.take(5000)]
    assert values == [b'%d' % n for n in range(5000)]
