"""The one supervisor: reconnects, says so once, and shares attempts."""

from __future__ import annotations

import asyncio
import time

import pytest

from service_scaffold import errors, events
from service_scaffold.clock import ManualClock
from service_scaffold.events.connection import CLOSE_LIMIT_S, Connection
from service_scaffold.testing import memory_bus, running
from service_scaffold.transports.address import Address
from service_scaffold.transports.base import Settings, Transport
from service_scaffold.transports.memory import MemoryTransport
from test.events.conftest import Inbox, MakeApp, until


async def test_one_warning_an_outage_and_one_line_at_its_end(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    app = make_app(clock=clock)
    caplog.set_level('INFO')
    events.get_listener(app).subscribe('plant', '#')
    async with running(app) as plant:
        for _ in range(2):
            caplog.clear()
            plant.bus.down()
            await clock.advance(60)
            warnings = [r for r in caplog.records if r.levelname == 'WARNING']
            assert [r.message.partition(':')[0] for r in warnings] == ['plant listener']
            plant.bus.up()
            await clock.advance(15)
            await plant.wait_active(5)
            assert sum('restored after' in r.message for r in caplog.records) == 1
        assert plant.listener.reconnects == 2


async def test_without_a_broker_at_the_start_one_warning_and_then_all_is_well(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    app = make_app(clock=clock)
    inbox = Inbox()
    events.get_listener(app).subscribe('plant', '#', on_message=inbox)
    memory_bus(app).down()
    async with running(app, active_s=0) as plant:
        await clock.advance(120)
        assert [r.levelname for r in caplog.records if r.levelno >= 30] == ['WARNING']
        plant.bus.up()
        await clock.advance(15)
        await plant.wait_active(5)
        await plant.publisher.publish('plant', 'a', 1)
        await inbox.got(1)


async def test_five_outages_leave_as_many_tasks_and_connections_as_none(
    make_app: MakeApp,
) -> None:
    clock = ManualClock()
    app = make_app(clock=clock)
    inbox = Inbox()
    view = events.get_listener(app).subscribe('plant', '#', on_message=inbox)
    group = events.get_listener(app).subscribe('plant', '#', on_message=inbox, group='g')
    async with running(app) as plant:
        await plant.publisher.publish('plant', 'a', 1)
        await plant.bus.join()

        def counts() -> tuple[int, int, int]:
            network = plant.bus.broker.network
            return (
                len(asyncio.all_tasks()),
                len(network.connections),
                len(plant.bus.worklist.consumers),
            )

        before = counts()
        for _ in range(5):
            plant.bus.drop_connections()
            await clock.advance(60)
            await view.wait_active(5)
            await group.wait_active(5)
            await plant.publisher.publish('plant', 'a', 1)
        await plant.bus.join()
        await until(lambda: counts() == before)


class Cancelling(MemoryTransport):
    """Cancels itself once in `connect`, as clients do whose inner future is cancelled."""

    attempts = 0

    async def connect(self) -> None:
        type(self).attempts += 1
        if self.attempts == 1:
            raise asyncio.CancelledError
        await super().connect()


class Slow(MemoryTransport):
    """Its first attempt fails late, though the broker is back by then."""

    attempts = 0
    hold: asyncio.Event

    async def connect(self) -> None:
        type(self).attempts += 1
        if self.attempts == 1:
            await self.hold.wait()
            raise errors.BrokerUnreachable('silent')
        await super().connect()


def _connection(kind: type[Transport]) -> Connection:
    settings = Settings(Address.parse('memory://connection'))
    clock = ManualClock()
    return Connection('test', lambda: kind(settings), lambda c, name: asyncio.create_task(c), clock)


async def test_a_client_that_cancels_itself_does_not_end_the_supervisor() -> None:
    Cancelling.attempts = 0
    connection = _connection(Cancelling)
    with pytest.raises(errors.BrokerUnreachable):
        await connection.obtain()
    await connection.obtain()
    await connection.stop()


async def test_an_attempt_that_began_before_the_call_may_fail_without_failing_it() -> None:
    Slow.attempts, Slow.hold = 0, asyncio.Event()
    connection = _connection(Slow)
    connection.demand()
    await until(lambda: Slow.attempts == 1)
    waiting = asyncio.ensure_future(connection.obtain())
    await asyncio.sleep(0)
    Slow.hold.set()
    assert isinstance(await waiting, Slow)
    await connection.stop()


async def test_after_the_stop_nobody_gets_a_connection() -> None:
    connection = _connection(MemoryTransport)
    await connection.obtain()
    await connection.stop()
    with pytest.raises(ConnectionError, match='stopped'):
        await connection.obtain()
    await connection.stop()


class Crashing(MemoryTransport):
    """Is lost the moment it is up."""

    async def connect(self) -> None:
        await super().connect()
        self.lose(errors.ConnectionLost('at once'))


async def test_a_connection_that_is_lost_at_once_is_no_busy_loop() -> None:
    connection = _connection(Crashing)
    connection.demand()
    for _ in range(100):
        await asyncio.sleep(0)
    assert connection.reconnects == 0
    assert not connection.up
    await connection.stop()


class Standing(MemoryTransport):
    """Its event loop stands still while it closes, for longer than anybody waits for that."""

    closed = False

    async def close(self) -> None:
        await asyncio.sleep(0.01)
        time.sleep(CLOSE_LIMIT_S + 0.2)  # noqa: ASYNC251 - as a handler that blocks
        await asyncio.sleep(0.01)
        await super().close()
        type(self).closed = True


async def test_what_closes_is_not_cut_off_when_the_loop_stands_still() -> None:
    Standing.closed = False
    connection = _connection(Standing)
    (await connection.obtain()).lose(errors.ConnectionLost('for a test'))
    await until(lambda: Standing.closed)
    await connection.stop()
