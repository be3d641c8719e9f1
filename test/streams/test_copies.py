"""Standbys and global tables: several workers on one log, in memory and on a real Kafka."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold import errors
from service_scaffold.journal.base import TopicSpec
from service_scaffold.streams.tables.place import from_copies
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.windows import TumblingWindow
from test.streams.several import crew_of, until

PARTITIONS = 4
GUARANTEES = ['at_least_once', 'exactly_once']
KEYS = [f'k{n}' for n in range(40)]


def counting(app: Topology) -> None:
    orders = app.topic(f'{app.id}-orders', partitions=PARTITIONS)
    counts = app.Table('counts', default=int)

    @app.agent(orders)
    async def count(stream):
        async for key, _ in stream.items():
            counts[key] += 1


def total(crew, table: str = 'counts') -> int:
    return sum(sum(peer.topology.tables[table].values()) for peer in crew.peers)


@pytest.mark.parametrize('guarantee', GUARANTEES)
async def test_a_standby_takes_over_without_reading_the_changelog(any_log, guarantee):
    """What the owner has, the other worker has, too, but for the last checkpoint at most."""
    async with crew_of(any_log, counting, guarantee=guarantee) as crew:
        first = await crew.join()
        second = await crew.join()
        await until(lambda: first.owns('counts') and second.owns('counts'))
        for _ in range(5):
            await crew.send('orders', *((key, b'1') for key in KEYS))
            await asyncio.sleep(0.1)
        await until(lambda: total(crew) == 5 * len(KEYS))
        wanted = {('counts', number) for number in first.owns('counts')}
        await until(lambda: set(second.copies) == wanted)
        await until(lambda: all(c.whole and c.lag == 0 for c in second.copies.values()))
        read = []

        class Listener:
            def on_restore_start(self, *args): ...
            def on_restore_batch(self, table, partition, offset, count):
                read.append(count)

            def on_restore_end(self, *args): ...

        second.topology.restore_listeners.append(Listener())
        await crew.leave(first)
        await until(lambda: second.owns('counts') == set(range(PARTITIONS)))
        assert second.topology.tables['counts']['k1'] == 5
        assert total(crew) == 5 * len(KEYS)
        assert sum(read) <= len(KEYS), 'only the last checkpoint is read again'
        await crew.send('orders', *((key, b'1') for key in KEYS))
        await until(lambda: total(crew) == 6 * len(KEYS))


async def test_without_standbys_nothing_is_copied(any_log):
    """`table_standby_replicas` 0 is respected."""
    async with crew_of(any_log, counting, standbys=0) as crew:
        first, second = await crew.join(), await crew.join()
        await until(lambda: first.owns('counts') and second.owns('counts'))
        await asyncio.sleep(1.2)
        assert not first.copies
        assert not second.copies


async def test_each_partition_has_as_many_standbys_as_wanted(any_log):
    """Rendezvous hashing: with one standby each, no partition has two."""
    async with crew_of(any_log, counting) as crew:
        for _ in range(3):
            await crew.join()
        await until(lambda: all(peer.owns('counts') for peer in crew.peers))

        def spread():
            places = sorted(place for peer in crew.peers for place in peer.copies)
            return places == [('counts', number) for number in range(PARTITIONS)]

        await until(spread)
        for peer in crew.peers:
            assert not peer.owns('counts') & {number for _, number in peer.copies}


def rates(app: Topology) -> None:
    rates = app.GlobalTable('rates', partitions=2)
    changes = app.topic(f'{app.id}-changes', partitions=2, value_type=int)
    orders = app.topic(f'{app.id}-orders', partitions=3)
    seen = app.topic(f'{app.id}-seen', partitions=1)

    @app.agent(changes)
    async def change(stream):
        async for key, value in stream.items():
            rates[key] = value
            assert rates[key] == value, 'own writes are visible at once'

    @app.agent(orders, sink=[seen])
    async def order(stream):
        async for key, _ in stream.items():
            yield {key: rates.get(key), 'all': len(rates)}


@pytest.mark.parametrize('guarantee', GUARANTEES)
async def test_a_global_table_is_read_everywhere(any_log, guarantee):
    """In agents of other partition counts and outside, on every worker; also on one that is new."""
    async with crew_of(any_log, rates, guarantee=guarantee) as crew:
        first, second = await crew.join(), await crew.join()
        await crew.send('changes', *((key, b'7') for key in KEYS))
        for peer in (first, second):
            table = peer.topology.tables['rates']
            await until(lambda table=table: len(table) == len(KEYS))
            assert table['k3'] == 7
            assert dict(table.items()) == dict.fromkeys(KEYS, 7)
            assert table.get('nothing') is None
            assert 'nothing' not in table
        third = await crew.join()
        assert third.worker.health().ready
        assert third.topology.tables['rates']['k5'] == 7, 'all is there before it is ready'
        await crew.send('changes', ('k3', b'8'))
        for peer in crew.peers:
            table = peer.topology.tables['rates']
            await until(lambda table=table: table['k3'] == 8)
        await crew.send('orders', ('k3', b'1'), ('k4', b'1'), ('k9', b'1'))

        async def all_seen():
            return await crew.end_of('seen', 1) >= 3

        await until(all_seen)


async def test_a_global_table_of_sets(any_log):
    """Members that any worker has added are seen by all."""

    def declare(app: Topology) -> None:
        tags = app.SetGlobalTable('tags', value_type=str)
        edits = app.topic(f'{app.id}-edits', partitions=2)

        @app.agent(edits)
        async def edit(stream):
            async for key, value in stream.items():
                tags[key].add(value)

    async with crew_of(any_log, declare) as crew:
        first, second = await crew.join(), await crew.join()
        await crew.send('edits', ('a', b'"x"'), ('b', b'"y"'), ('c', b'"z"'), ('a', b'"w"'))
        for peer in (first, second):
            tags = peer.topology.tables['tags']
            await until(lambda tags=tags: tags['a'] == {'x', 'w'})
            await until(
                lambda tags=tags: dict(tags.items()) == {'a': {'x', 'w'}, 'b': {'y'}, 'c': {'z'}}
            )


async def test_tables_that_go_by_time_are_read_from_copies(any_log):
    """Windows and `ttl`: a copy has them as the owner does."""

    def declare(app: Topology) -> None:
        orders = app.topic(f'{app.id}-orders', partitions=PARTITIONS)
        hourly = app.Table('hourly', default=int, window=TumblingWindow(3600))
        recent = app.Table('recent', default=int, ttl=3600)

        @app.agent(orders)
        async def count(stream):
            async for key, _ in stream.items():
                hourly[key] += 1
                recent[key] += 1

    async with crew_of(any_log, declare) as crew:
        first, second = await crew.join(), await crew.join()
        await until(lambda: first.owns('recent') and second.owns('recent'))
        await crew.send('orders', *((key, b'1') for key in KEYS))
        hourly, recent = (second.topology.tables[name] for name in ('hourly', 'recent'))

        def seen(table) -> bool:
            with from_copies():
                return len(list(table)) == len(KEYS)

        await until(lambda: seen(recent) and seen(hourly))
        theirs = next(k for k in KEYS if recent.partition_of(k) not in second.owns('recent'))
        with pytest.raises(errors.NotOwned):
            recent[theirs]
        with from_copies():
            assert recent[theirs] == 1
            assert recent.position(theirs)['copy'] is True
            assert hourly[theirs].value() == 1
            assert hourly[theirs].now() == 1


async def test_a_registry_that_may_not_be_made_costs_nothing_else(any_log, caplog):
    """Without the topic of workers there are no standbys; agents and tables work."""
    journal = any_log.open_journal()
    await journal.connect()
    names = [f'{any_log.id}-orders', f'{any_log.id}-counts-changelog']
    await journal.create([TopicSpec(name, PARTITIONS) for name in names])
    await journal.close()
    async with crew_of(any_log, counting, may_declare=False) as crew:
        await crew.join()
        await crew.send('orders', *((key, b'1') for key in KEYS))
        await until(lambda: total(crew) == len(KEYS))
        await until(lambda: f'{any_log.id}-workers is missing' in caplog.text)


async def test_a_global_table_has_no_holes_while_partitions_move(any_log):
    """A value that is there stays there for readers, whoever comes and goes; or they are told."""
    async with crew_of(any_log, rates) as crew:
        first = await crew.join()
        await crew.send('changes', *((key, b'7') for key in KEYS))
        table = first.topology.tables['rates']
        await until(lambda: len(table) == len(KEYS))
        seen: dict[object, int] = {}
        done = asyncio.Event()

        async def read() -> None:
            while not done.is_set():
                for key in KEYS:
                    try:
                        value = table.get(key)
                    except errors.NotOwned:
                        value = 'told'
                    seen[value] = seen.get(value, 0) + 1
                await asyncio.sleep(0.001)

        reading = asyncio.ensure_future(read())
        second = await crew.join()
        await until(
            lambda: second.owns('rates') and first.owns('rates') and len(table.visible) == 2
        )
        await crew.leave(second)
        await until(lambda: first.owns('rates') == {0, 1})
        done.set()
        await reading
        assert set(seen) <= {7, 'told'}
        assert seen[7] > 10 * seen.get('told', 0)
