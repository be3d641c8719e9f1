"""Topics that somebody deletes: the worker says so, and goes on when they are back."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager

import pytest

from service_scaffold import errors
from service_scaffold.journal.base import TopicPartition, TopicSpec
from test.streams.several import Crew, until

FIVE = 5


@pytest.fixture(params=['at_least_once', 'exactly_once'])
def guarantee(request):
    return request.param


@pytest.fixture
async def admin(any_log):
    """Makes and deletes topics of the application."""
    journal = any_log.open_journal()
    await journal.connect()
    yield journal
    await journal.close()


@asynccontextmanager
async def running(log, guarantee, **settings):
    """A worker that counts numbers by their remainder."""

    def declare(app):
        numbers = app.topic(f'{log.id}-numbers', value_type=int)
        sums = app.Table('sums', default=int, partitions=2)

        @app.agent(numbers)
        async def work(stream):
            by_rest = stream.group_by(lambda n: str(n % FIVE), name='rest', partitions=2)
            async for event in by_rest.events():
                sums[event.key] += 1

    crew = Crew(
        log, declare, guarantee=guarantee, registry=False, look_s=0.1, kept_s=0.2, **settings
    )
    try:
        yield crew, await crew.start()
    finally:
        await crew.close()


async def count(crew, peer, first, last, total):
    """Send numbers, and wait until so many are counted."""
    await crew.send('numbers', *[(f'k{n}', b'%d' % n) for n in range(first, last)])
    sums = peer.topology.tables['sums']
    await until(lambda: sum(sums.values()) >= total)
    repeated = last - first if crew.settings.guarantee == 'at_least_once' else 0
    assert sum(sums.values()) <= total + repeated


async def test_a_source_is_named_and_waited_for(any_log, admin, guarantee, caplog):
    name = f'{any_log.id}-numbers'
    await admin.create([TopicSpec(name, 2)])
    async with running(any_log, guarantee) as (crew, peer):
        await count(crew, peer, 0, 10, 10)
        with caplog.at_level(logging.WARNING):
            await admin.delete([name])
            await until(lambda: peer.worker.health().detail.get('missing_topics') == [name])
        assert not peer.worker.health().ok
        assert f'Deleted while in use: {name};' in caplog.text
        assert f'waiting for topics that do not exist yet: {name}' in caplog.text
        await admin.create([TopicSpec(name, 3)])
        await count(crew, peer, 10, 20, 20)
        await until(lambda: peer.worker.health().ok)
        assert peer.worker.failure is None


async def test_a_topic_of_our_own_is_made_again(any_log, admin, guarantee, caplog):
    await admin.create([TopicSpec(f'{any_log.id}-numbers', 2)])
    async with running(any_log, guarantee) as (crew, peer):
        await count(crew, peer, 0, 10, 10)
        (between,) = [n for n in await admin.topics(any_log.id) if n.endswith('-repartition')]
        first = peer.worker.session
        with caplog.at_level(logging.WARNING):
            await admin.delete([between])
            await until(lambda: peer.worker.session not in (None, first))
        assert f'Deleted while in use: {between};' in caplog.text
        await count(crew, peer, 10, 20, 20)
        assert peer.worker.failure is None


async def test_a_changelog_is_made_again_from_what_the_table_has(any_log, admin, guarantee, caplog):
    """Nothing is dead-lettered for it, and another worker has all from the new changelog."""
    await admin.create([TopicSpec(f'{any_log.id}-numbers', 2)])
    changelog = f'{any_log.id}-sums-changelog'
    async with running(any_log, guarantee) as (crew, peer):
        await count(crew, peer, 0, 10, 10)
        await until(lambda: not peer.worker.session.dirty)
        await admin.delete([changelog])
        await count(crew, peer, 10, 13, 13)

        async def is_logged():
            return len(await keys_in(admin, changelog)) == FIVE

        await until(is_logged)
        await until(lambda: peer.worker.session is not None and not peer.worker.session.dirty)
        known = dict(peer.topology.tables['sums'].items())
        assert min(known.values()) >= 2
        assert 'is logged again' in caplog.text
        assert [name for name in await admin.topics(any_log.id) if name.endswith('.dlq')] == []
    async with running(any_log, guarantee) as (crew, peer):  # with an empty store
        sums = peer.topology.tables['sums']
        await until(lambda: dict(sums.items()) == known)
        await count(crew, peer, 13, 15, sum(known.values()) + 2)


async def test_a_changelog_of_others_is_not_made_of_a_store_that_is_behind(
    any_log, admin, guarantee
):
    """As after a reset: what the group has not committed is no longer of any use."""
    await admin.create([TopicSpec(f'{any_log.id}-numbers', 2)])
    async with running(any_log, guarantee) as (crew, peer):
        await count(crew, peer, 0, 10, 10)
        await until(lambda: not peer.worker.session.dirty)
        stores = peer.worker._workplace.stores
        await crew.leave(peer)
        await admin.delete([f'{any_log.id}-sums-changelog'])
        await until(lambda: is_free(admin, any_log.id))
        await admin.forget(any_log.id)
        crew.stores = stores
        peer = await crew.join()
        await until(lambda: sum(peer.topology.tables['sums'].values()) >= 10)
        assert max(peer.topology.tables['sums'].values()) <= 4


async def is_free(journal, group):
    return not await journal.members(group)


async def keys_in(journal, topic):
    """Return the keys that a topic has a record of."""
    counts = await journal.partitions([topic])
    where = [TopicPartition(topic, number) for number in range(counts[topic] or 0)]
    try:
        ends = await journal.offsets(where, 'end')
    except errors.ScaffoldError:
        return set()
    reader = await journal.reader()
    try:
        await reader.assign(dict.fromkeys(where, 0))
        found = set()
        while any(reader.position(one) < ends[one] for one in where):
            found |= {record.key for record in await reader.fetch(1000, 0.2)}
        return found
    finally:
        await reader.close()
