"""One connection to the log."""

from __future__ import annotations

import pytest

from service_scaffold.streams.driver import drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology


@pytest.mark.parametrize('guarantee', ['at_least_once', 'exactly_once'])
async def test_what_comes_after_the_end_of_a_connection_is_not_begun(guarantee):
    """A Kafka client tells of partitions in a task of its own, which may be late."""
    app = Topology(StreamSettings('shop', guarantee=guarantee))
    orders = app.topic('orders', value_type=int, partitions=2)
    table = app.Table('seen', default=int)

    @app.agent(orders)
    async def work(stream):
        async for number in stream:
            table[number] += 1

    async with drive(app) as t:
        await t.settle()
        session = t.worker.session
        partitions = frozenset(p for task in session.tasks.values() for p in task.partitions)
        await session.close()

        await session.on_assigned(partitions)

        assert partitions
        assert not session.tasks
