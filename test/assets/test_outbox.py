"""What is on its way to the broker: order, the newest of each, and what a failure leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from service_scaffold import errors
from service_scaffold.assets.outbox import Change, Outbox
from service_scaffold.clock import SystemClock
from test.events.conftest import until


class Broker:
    """Stores what it is given, unless it is told to fail."""

    def __init__(self) -> None:
        self.stored: list[Change] = []
        self.failures: list[Exception] = []
        self.refused: set[bytes | None] = set()
        self.open = asyncio.Event()
        self.open.set()
        self.asked = 0

    async def put(self, changes: Sequence[Change]) -> None:
        self.asked += 1
        await self.open.wait()
        if self.failures:
            raise self.failures.pop(0)
        failed = tuple(n for n, (_, value) in enumerate(changes) if value in self.refused)
        self.stored += [change for n, change in enumerate(changes) if n not in failed]
        if failed:
            raise errors.PublishError('too much', phase='confirm', failed=failed)


def go() -> None:
    """Let every entry go out."""


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest_asyncio.fixture
async def outbox(broker: Broker) -> AsyncIterator[Outbox]:
    outbox = Outbox(broker.put, SystemClock())
    running = asyncio.ensure_future(outbox.run())
    yield outbox
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_what_is_posted_and_put_keeps_its_order(broker: Broker, outbox: Outbox) -> None:
    outbox.post('a', b'1', go)
    putting = asyncio.ensure_future(outbox.put([('b', b'2'), ('a', b'3')], go, 5))
    await asyncio.sleep(0)
    outbox.post('b', b'4', go)
    await putting
    await until(lambda: len(broker.stored) == 4)
    assert broker.stored == [('a', b'1'), ('b', b'2'), ('a', b'3'), ('b', b'4')]


async def test_the_newest_unsent_one_takes_the_place_of_older_ones(
    broker: Broker, outbox: Outbox
) -> None:
    broker.open.clear()
    outbox.post('a', b'0', go)
    await until(lambda: broker.asked == 1)
    for number in range(1, 10):
        outbox.post('a', b'%d' % number, go)
        outbox.post('b', b'%d' % number, go)
    broker.open.set()
    await until(lambda: len(broker.stored) == 3)
    assert broker.stored == [('a', b'0'), ('a', b'9'), ('b', b'9')]


async def test_after_a_failure_what_was_posted_is_sent_again_unless_there_is_a_newer_one(
    broker: Broker, outbox: Outbox
) -> None:
    broker.failures = [errors.ConnectionLost('gone'), errors.ConnectionLost('gone')]
    broker.open.clear()
    outbox.post('a', b'1', go)
    outbox.post('b', b'1', go)
    await until(lambda: broker.asked == 1)
    outbox.post('a', b'2', go)
    broker.open.set()
    await until(lambda: len(broker.stored) == 2)
    assert broker.stored == [('b', b'1'), ('a', b'2')]


async def test_who_waits_is_told_and_is_not_sent_again(broker: Broker, outbox: Outbox) -> None:
    broker.failures = [errors.ConnectionLost('gone')]
    with pytest.raises(errors.PublishError, match='gone'):
        await outbox.put([('a', b'1')], go, 5)
    await outbox.put([('a', b'2')], go, 5)
    assert broker.stored == [('a', b'2')]


async def test_one_that_is_refused_harms_no_other(broker: Broker, outbox: Outbox) -> None:
    broker.refused = {b'huge'}
    outbox.post('posted', b'huge', go)
    await until(lambda: broker.asked > 0)
    for number in range(5):  # none of them waits for the pause after the failure
        async with asyncio.timeout(1):
            await outbox.put([('a', b'%d' % number)], go, 5)
    both = await asyncio.gather(
        outbox.put([('b', b'1')], go, 5),
        outbox.put([('c', b'huge')], go, 5),
        return_exceptions=True,
    )
    assert both[0] is None
    assert isinstance(both[1], errors.PublishError)
    broker.refused = set()
    await outbox.put([('d', b'1')], go, 5)
    assert broker.stored[-2:] == [('posted', b'huge'), ('d', b'1')]


async def test_a_put_that_is_cancelled_or_late_is_not_sent_afterwards(
    broker: Broker, outbox: Outbox
) -> None:
    broker.open.clear()
    outbox.post('a', b'1', go)
    await until(lambda: broker.asked == 1)
    cancelled = asyncio.ensure_future(outbox.put([('a', b'2')], go, 5))
    with pytest.raises(errors.PublishError) as caught:
        await outbox.put([('a', b'3')], go, 0.01)
    assert (caught.value.phase, caught.value.maybe_sent) == ('connect', False)
    cancelled.cancel()
    await asyncio.wait({cancelled})
    broker.open.set()
    await outbox.put([('a', b'4')], go, 5)
    assert broker.stored == [('a', b'1'), ('a', b'4')]


async def test_what_may_not_go_any_more_is_held_back(broker: Broker, outbox: Outbox) -> None:
    def refuse() -> None:
        raise errors.AssetFenced('newer owner')

    outbox.post('a', b'1', refuse)
    with pytest.raises(errors.AssetFenced):
        await outbox.put([('b', b'1')], refuse, 5)
    assert broker.stored == []
