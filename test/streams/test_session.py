"""One connection to the log."""

from __future__ import annotations

import pytest

from service_scaffold.journal.base import TopicSpec
from service_scaffold.journal.memory import MemoryJournal
from service_scaffold.streams.driver import drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.testing.conformance.inbox import eventually


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


async def test_a_topic_that_comes_later_repeats_nothing_of_the_others():
    """The partition begins again with one topic more, behind what was finished."""
    app = Topology(StreamSettings('shop'))
    orders = app.topic('orders', value_type=int, partitions=1)
    late = app.topic('late', value_type=int)
    seen = []

    @app.agent(orders)
    async def work(stream):
        async for number in stream:
            seen.append(number)

    @app.agent(late)
    async def work_late(stream):
        async for number in stream:
            seen.append(number)

    async with drive(app) as t:
        for number in range(5):
            await t.send(orders, number)
        await eventually(lambda: work.stats.processed == 5)  # and nothing is committed
        journal = MemoryJournal(t._broker)
        await journal.connect()
        await journal.create([TopicSpec('late', 1)])
        await journal.close()
        await t.send(late, 99)
        await t.settle()
        assert seen == [0, 1, 2, 3, 4, 99]
