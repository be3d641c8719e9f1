"""A consumer whose intake fails in the ways that client libraries have."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import pytest

from service_scaffold import errors, events, transports
from service_scaffold.clock import ManualClock
from service_scaffold.testing import running
from service_scaffold.transports import memory
from service_scaffold.transports.base import Binding, Delivery, Intake, IntakeSpec, Transport
from service_scaffold.transports.memory import MemoryTransport
from test.events.conftest import Inbox, MakeApp, until


class FailingIntake(Intake):
    """A memory intake whose `fetch` raises."""

    def __init__(self, intake: Intake, error: BaseException) -> None:
        self._intake = intake
        self._error = error

    async def bind(self, bindings: Sequence[Binding]) -> Mapping[Binding, Exception]:
        return await self._intake.bind(bindings)

    async def unbind(self, bindings: Sequence[Binding]) -> None:
        await self._intake.unbind(bindings)

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        await asyncio.sleep(0)
        raise self._error

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        self._intake.settle(deliveries)

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        self._intake.requeue(deliveries)

    async def pause(self) -> None:
        await self._intake.pause()

    async def close(self, *, forget: bool = False) -> None:
        await self._intake.close(forget=forget)


class Failing(MemoryTransport):
    """A memory transport whose first intake fails with `error`."""

    error: ClassVar[BaseException]
    used: ClassVar[list[Transport]] = []

    async def intake(self, spec: IntakeSpec) -> Intake:
        intake = await super().intake(spec)
        self.used.append(self)
        # The same connection fails again: it is what is broken, or the client of one intake.
        broken = self is self.used[0] if self._is_lost else len(self.used) == 1
        return FailingIntake(intake, self.error) if broken else intake

    @property
    def _is_lost(self) -> bool:
        return isinstance(self.error, errors.ConnectionLost)


@pytest.fixture
def failing() -> Iterator[type[Failing]]:
    """Event bus URLs `failing://name` open it."""
    transports.register('failing', f'{__name__}:Failing')
    yield Failing
    del transports.SCHEMES['failing']
    Failing.used.clear()


@pytest.mark.parametrize('group', [None, 'g'])
async def test_a_client_that_cancels_its_own_fetch_has_lost_its_intake(
    make_app: MakeApp, failing: type[Failing], unique: str, group: str | None
) -> None:
    """It is opened again; the worker does not end unseen."""
    clock = ManualClock()
    app = make_app(clock=clock)
    failing.error = asyncio.CancelledError()
    inbox = Inbox()
    listener = events.EventListener(app, f'failing://{unique}')
    subscription = listener.subscribe('plant', '#', on_message=inbox, group=group)
    async with running(app):
        await until(lambda: subscription.state == 'failed')
        assert isinstance(subscription.last_error, errors.IntakeLost)
        assert 'cancelled the fetch itself' in str(subscription.last_error)
        await clock.advance(1)
        await subscription.wait_active(5)
        await memory.broker(unique).publish('plant', 'a', b'1')
        await inbox.got(1)


async def test_a_loss_that_the_connection_has_not_noticed_ends_it(
    make_app: MakeApp, failing: type[Failing], unique: str
) -> None:
    """Once: the consumer does not come back to the same connection at once, and again."""
    clock = ManualClock()
    app = make_app(clock=clock)
    failing.error = errors.ConnectionLost('the socket is closed')
    inbox = Inbox()
    listener = events.EventListener(app, f'failing://{unique}')
    subscription = listener.subscribe('plant', '#', on_message=inbox, group='g')
    async with running(app):
        await until(lambda: failing.used and failing.used[0].lost.done())
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(failing.used) == 1
        await clock.advance(15)
        await subscription.wait_active(5)
        assert len(failing.used) == 2
        assert listener.reconnects == 1
        await memory.broker(unique).publish('plant', 'a', b'1')
        await inbox.got(1)


async def test_one_warning_for_the_trouble_of_one_outage(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    """What goes wrong soon after is told on DEBUG; after half a minute of peace it is news."""
    clock = ManualClock()
    app = make_app(clock=clock)
    caplog.set_level('DEBUG')
    subscription = events.get_listener(app).subscribe('plant', '#', group='g')
    async with running(app) as plant:

        async def lose_the_queue() -> str:
            caplog.clear()
            plant.bus.delete_group('g', 'plant')
            await until(lambda: subscription.state == 'failed')
            await clock.advance(10)
            await subscription.wait_active(5)
            (level,) = [r.levelname for r in caplog.records if 'cannot consume' in r.message]
            return level

        assert [await lose_the_queue() for _ in range(3)] == ['WARNING', 'DEBUG', 'DEBUG']
        await clock.advance(31)
        assert await lose_the_queue() == 'WARNING'
