"""The state part of the port: latest values, kept by the broker."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold import errors
from service_scaffold.testing.conformance.broker import BrokerControl
from service_scaffold.testing.conformance.case import Case, needs
from service_scaffold.testing.conformance.connections import (
    Connections,
    Following,
    following,
    state_of,
)
from service_scaffold.testing.conformance.inbox import WAIT_S

ODD_KEYS = ('mill.1/temp', '.hidden/..', '$SYS/x', 'a:b@c=d/~e f', 'größe/温度', 'M/' + 'n' * 253)
BAD_KEYS = ('mill', 'mill/', '/temp', 'a/b/c', 'a/+', '#/b', 'a/b\n', ' a/b', 'M/' + 'n' * 254)


class LatestValues(Case):
    """Who puts, who reads, and what outlives them."""

    async def test_an_empty_store_is_a_snapshot_too(self, connections: Connections) -> None:
        """Its end is told, and then what comes."""
        reader = await connections.open()
        async with following(reader) as changes:
            assert await changes.next() is None
            await state_of(reader).put('mill/temp', b'1')
            assert await changes.next() == ('mill/temp', b'1')

    async def test_a_snapshot_comes_first_then_each_change(self, connections: Connections) -> None:
        """Latest values without what was deleted; then every change, deletions too."""
        writer, reader = await connections.open('writer'), await connections.open()
        await state_of(writer).put_many([('mill/a', b'1'), ('mill/b', b'2'), ('mill/a', b'3')])
        await state_of(writer).put('mill/b', None)
        await state_of(writer).put('drill/b', b'4')

        async with following(reader) as changes:
            assert await changes.snapshot() == {'mill/a': b'3', 'drill/b': b'4'}
            later = [('mill/b', b'5'), ('mill/b', b'6'), ('mill/b', None), ('mill/a', b'7')]
            await state_of(writer).put_many(later)
            assert await changes.take(4) == later

    async def test_what_was_deleted_comes_back_with_its_next_value_only(
        self, connections: Connections
    ) -> None:
        """A deletion of what is not there does no harm either."""
        writer = await connections.open('writer')
        await state_of(writer).put_many([('mill/a', None), ('mill/a', b'1'), ('mill/a', None)])
        async with following(await connections.open()) as changes:
            assert await changes.snapshot() == {}
        await state_of(writer).put('mill/a', b'2')
        async with following(await connections.open()) as changes:
            assert await changes.snapshot() == {'mill/a': b'2'}

    async def test_values_outlive_their_writer(self, connections: Connections) -> None:
        """And readers that begin when nobody else is there get them."""
        writer = await connections.open('writer')
        values = {f'mill/attribute{n}': b'%d' % n for n in range(20)}
        await state_of(writer).put_many(list(values.items()))
        await writer.close()

        async with following(await connections.open()) as changes:
            assert await changes.snapshot() == values

    async def test_keys_and_values_are_kept_as_they_are(self, connections: Connections) -> None:
        """Dots, spaces, other scripts; bytes of any kind and size."""
        values: dict[str, bytes | None] = dict.fromkeys(ODD_KEYS, b'x')
        values |= {'mill/binary': bytes(range(256)), 'mill/large': b'\0' * 200_000}
        writer = await connections.open('writer')
        async with following(await connections.open()) as live:
            assert await live.next() is None
            await state_of(writer).put_many(list(values.items()))
            seen = await live.take(len(values))
        assert sorted(seen, key=str) == sorted(values.items(), key=str)
        async with following(await connections.open()) as changes:
            assert await changes.snapshot() == values
        await state_of(writer).put('mill/large', None)  # brokers may write all, again and again

    @pytest.mark.parametrize('key', BAD_KEYS)
    async def test_what_is_no_key_is_refused(self, connections: Connections, key: str) -> None:
        """With all that was to be stored together with it."""
        writer = await connections.open('writer')
        with pytest.raises(ValueError, match='key'):
            await state_of(writer).put_many([('mill/a', b'1'), (key, b'2')])
        async with following(writer) as changes:
            assert await changes.snapshot() == {}

    async def test_an_empty_value_is_refused(self, connections: Connections) -> None:
        """It could not be told from a deletion everywhere."""
        writer = await connections.open('writer')
        with pytest.raises(ValueError, match='empty'):
            await state_of(writer).put('mill/a', b'')

    async def test_nothing_is_missed_between_snapshot_and_changes(
        self, connections: Connections
    ) -> None:
        """With a writer that does not pause; no value is older than one that was seen."""
        writer, reader = await connections.open('writer'), await connections.open()
        keys = [f'mill-{n}/temp' for n in range(20)]
        await state_of(writer).put_many([(key, b'0') for key in keys])
        last = 60

        async def write() -> None:
            for number in range(1, last + 1):
                await state_of(writer).put_many([(key, b'%d' % number) for key in keys])

        writing = asyncio.ensure_future(write())
        try:
            async with following(reader) as changes:
                newest = {key: int(value or 0) for key, value in (await changes.snapshot()).items()}
                assert newest.keys() == set(keys)
                while min(newest.values()) < last:
                    change = await changes.next()
                    assert change is not None
                    number = int(change[1] or 0)
                    assert newest[change[0]] <= number <= newest[change[0]] + 1
                    newest[change[0]] = number
        finally:
            await writing

    async def test_several_read_at_once_each_its_own_way(self, connections: Connections) -> None:
        """On one connection too; who ends disturbs nobody."""
        transport = await connections.open()
        await state_of(transport).put('mill/a', b'1')
        readers = [Following(state_of(transport)) for _ in range(3)]
        for reader in readers:
            assert await reader.snapshot() == {'mill/a': b'1'}

        await readers.pop(0).close()
        await state_of(transport).put('mill/a', b'2')
        for reader in readers:
            assert (await reader.until(lambda change: change[1] == b'2'))[-1] == ('mill/a', b'2')
            await reader.close()

    async def test_namespaces_do_not_mix(self, connections: Connections, exchange: str) -> None:
        """The same key, twice."""
        one = await connections.open()
        other = await connections.open(namespace=f'{exchange}-other')
        await state_of(one).put('mill/a', b'1')
        await state_of(other).put('mill/a', b'2')
        async with following(one) as changes:
            assert await changes.snapshot() == {'mill/a': b'1'}
        async with following(other) as changes:
            assert await changes.snapshot() == {'mill/a': b'2'}

    async def test_nothing_works_after_the_end(self, connections: Connections) -> None:
        """A closed connection says so, and its readers end."""
        transport = await connections.open()
        async with following(transport) as changes:
            assert await changes.next() is None
            await transport.close()
            with pytest.raises(errors.ConnectionLost):
                await changes.next()
        with pytest.raises(errors.ConnectionLost):
            await state_of(transport).put('mill/a', b'1')

    @needs('faults')
    async def test_readers_are_told_of_a_lost_connection(
        self, connections: Connections, broker: BrokerControl
    ) -> None:
        """And what was confirmed before is there after it."""
        transport = await connections.open()
        async with following(transport) as changes:
            assert await changes.next() is None
            await state_of(transport).put('mill/a', b'1')
            assert await changes.next() == ('mill/a', b'1')

            await asyncio.to_thread(broker.stop)

            with pytest.raises(errors.ConnectionLost):
                await changes.next()
        async with asyncio.timeout(WAIT_S):
            await transport.lost
        await asyncio.to_thread(broker.start)
        async with following(await connections.open()) as changes:
            assert await changes.snapshot() == {'mill/a': b'1'}
