"""The driver's clock: where it stops while time passes."""

from __future__ import annotations

from service_scaffold.streams.driver import drive
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.windows import TumblingWindow


async def test_nothing_of_ours_stops_the_clock_each_second():
    """A day may pass in a test: neither fetching nor checkpoints are waited for."""
    app = Topology(StreamSettings('shop', guarantee='exactly_once'))
    orders = app.topic('orders', partitions=1)
    table = app.Table('sums', default=int, window=TumblingWindow(10))

    @app.agent(orders)
    async def add(stream):
        async for n in stream:
            table['a'] += n

    async with drive(app) as t:
        await t.send(orders, 1)
        await t.settle()
        due = t.clock.next_due
        assert due is None or due >= 10


async def test_what_ends_comes_at_its_own_time_between_what_is_due():
    app = Topology(StreamSettings('shop'))
    orders = app.topic('orders', partitions=1)
    ends: list[float] = []
    table = app.Table(
        'sums',
        default=int,
        window=TumblingWindow(10),
        on_window_close=lambda key, window, value: ends.append(t.now),
    )

    @app.agent(orders)
    async def add(stream):
        async for n in stream:
            table['a'] += n

    async with drive(app, start=7.0) as t:
        await t.send(orders, 1)
        await t.advance(100)
        assert ends == [10.0]
