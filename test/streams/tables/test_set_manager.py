"""Tables of sets that are changed from outside of agents."""

from __future__ import annotations

import dataclasses

import pytest

from service_scaffold import errors
from service_scaffold.streams.driver import drive
from service_scaffold.streams.records import Record
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology

GUARANTEES = ['at_least_once', 'exactly_once']


class Seat(Record, frozen=True):
    row: str
    number: int


@pytest.mark.parametrize('guarantee', GUARANTEES)
@pytest.mark.parametrize('kind', ['SetTable', 'SetGlobalTable'])
async def test_a_set_is_changed_from_anywhere(guarantee: str, kind: str) -> None:
    """Each method does what that of `set` does; the table has it after a restart, too."""
    app = Topology(StreamSettings('shop', guarantee=guarantee))
    tags = getattr(app, kind)('tags', value_type=int, start_manager=True)
    async with drive(app) as t:
        await tags.manager.update('a', range(6))
        await tags.manager.discard('a', 0)
        await tags.manager.difference_update('a', [1])
        await tags.manager.intersection_update('a', {2, 3, 4, 9})
        await tags.manager.symmetric_difference_update('a', (4, 5))
        await tags.manager.add('a', 6)
        await tags.manager.add('b', 1)
        await tags.manager.clear('b')
        await t.settle()
        assert dict(tags.items()) == {'a': {2, 3, 5, 6}}
        await t.restart(wipe_state=True)
        assert dict(tags.items()) == {'a': {2, 3, 5, 6}}


async def test_members_are_of_their_type_on_the_other_side() -> None:
    app = Topology(StreamSettings('shop'))
    seats = app.SetTable('seats', key_type=int, value_type=Seat, start_manager=True)
    async with drive(app) as t:
        await seats.manager.add(7, Seat('a', 1))
        await t.settle()
        assert dict(seats.items()) == {7: {Seat('a', 1)}}


async def test_agents_may_change_it_as_well() -> None:
    """A change that an agent orders through the manager belongs to its event."""
    app = Topology(StreamSettings('shop'))
    tags = app.SetTable('tags', start_manager=True, partitions=2)
    orders = app.topic('orders', partitions=2)

    @app.agent(orders)
    async def order(stream):
        async for key, value in stream.items():
            tags[key].add(value)
            await tags.manager.add(value, key)

    async with drive(app) as t:
        await t.send(orders, 'x', key='a')
        await t.settle()
        assert dict(tags.items()) == {'a': {'x'}, 'x': {'a'}}


async def test_another_number_of_partitions_is_found_at_the_start() -> None:
    app = Topology(StreamSettings('shop'))
    tags = app.SetTable('tags', start_manager=True)
    orders = app.topic('orders', partitions=3)

    @app.agent(orders)
    async def order(stream):
        async for key, value in stream.items():
            tags[key].add(value)

    with pytest.raises(errors.CoPartitionError, match='shop-tags-setmanager'):
        async with drive(app) as t:
            await t.settle()


async def test_an_unknown_action_is_dead_lettered() -> None:
    app = Topology(StreamSettings('shop'))
    app.SetTable('tags', start_manager=True, manager_topic_name='tag-changes', partitions=1)
    async with drive(app) as t:
        await t.send('tag-changes', b'{"action": "explode"}', key='a')
        await t.settle()
        assert len(t.read('tag-changes.dlq')) == 1


def test_the_topic_is_named_after_the_application() -> None:
    """Also when its id is known only after the table was declared; a name of one's own stays."""
    app = Topology(StreamSettings('shop'))
    own = app.SetTable('own', start_manager=True, manager_topic_suffix='-changes')
    given = app.SetTable('given', start_manager=True, manager_topic_name='elsewhere')
    app.configure(dataclasses.replace(app.settings, id='store'))
    assert own.manager.topic.name == 'store-own-changes'
    assert given.manager.topic.name == 'elsewhere'


def test_without_a_manager_there_is_none() -> None:
    tags = Topology(StreamSettings('shop')).SetTable('tags')
    with pytest.raises(errors.StreamError, match='start_manager=True'):
        tags.manager.topic  # noqa: B018 - asking is what is refused
