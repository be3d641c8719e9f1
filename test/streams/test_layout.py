"""Tables whose topics come later, and how many partitions they have then."""

from __future__ import annotations

import pytest

from service_scaffold.journal.base import TopicSpec
from service_scaffold.streams.driver import drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology


def counting(**settings):
    app = Topology(StreamSettings('shop', **settings))
    orders = app.topic('orders', value_type=int)
    table = app.Table('sums', default=int)

    @app.agent(orders)
    async def add(stream):
        async for event in stream.events():
            table[event.key] += event.value

    return app, orders, table


async def test_a_changelog_waits_for_the_topics_of_its_table():
    """Made before, it would have a number of partitions that its topics need not have."""
    app, orders, table = counting()
    async with drive(app) as t:
        assert table.count is None
        journal = t._open_journal()
        await journal.connect()
        await journal.create([TopicSpec('orders', 6)])
        await journal.close()
        await t.send(orders, 3, key='a', partition=5)
        await t.settle()
        assert table.count == 6
        assert dict(table.items()) == {'a': 3}


@pytest.mark.parametrize(('given', 'count'), [(1, 1), (3, 3), (None, 4)])
async def test_a_topic_that_a_test_sends_to_has_as_many_partitions_as_the_settings_say(
    given, count
):
    app, orders, table = counting(topic_partitions=given)
    async with drive(app) as t:
        await t.send(orders, 3, key='a')
        await t.settle()
        assert (table.count, dict(table.items())) == (count, {'a': 3})
