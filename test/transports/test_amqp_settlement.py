"""Settlement against a channel that keeps books as RabbitMQ does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

import pytest

from service_scaffold.transports.amqp_settlement import Settlement

Frame = tuple[int, list[int], list[int]]


class Ledger:
    """Knows which tags are unsettled; refuses those that are not, as the broker does."""

    def __init__(self, count: int) -> None:
        self.unsettled = set(range(1, count + 1))
        self.returned: set[int] = set()
        self.frames: list[Frame] = []
        self.writable = True
        self.written = asyncio.Event()
        self._pending: list[Frame] = []

    def acks(self, up_to: int, single: Iterable[int], back: Iterable[int]) -> bytes:
        self._pending.append((up_to, list(single), list(back)))
        return b''

    def write(self, payload: bytes, drained: asyncio.Future[None] | None = None) -> None:
        assert self.writable
        up_to, single, back = self._pending.pop()
        self.frames.append((up_to, single, back))
        self.written.set()
        for tag in back:
            self._take(tag)
            self.returned.add(tag)
        if up_to:
            self._take(up_to)
            self.unsettled = {tag for tag in self.unsettled if tag > up_to}
        for tag in single:
            self._take(tag)

    def _take(self, tag: int) -> None:
        assert tag in self.unsettled, f'PRECONDITION_FAILED - unknown delivery tag {tag}'
        self.unsettled.remove(tag)


async def _turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_contiguous_run_is_one_frame_at_the_next_turn() -> None:
    ledger = Ledger(100)
    settlement = Settlement(ledger, 100)
    settlement.done(range(1, 51))
    settlement.done(range(51, 101))
    await _turn()

    assert ledger.frames == [(100, [], [])]


async def test_a_hole_that_closes_costs_no_frame_of_its_own() -> None:
    ledger = Ledger(4)
    settlement = Settlement(ledger, 32)
    settlement.done([2, 3, 4])
    await _turn()
    settlement.done([1])
    await _turn()

    assert ledger.frames == [(4, [], [])]


async def test_a_hole_that_stays_is_settled_singly_soon() -> None:
    ledger = Ledger(4)
    settlement = Settlement(ledger, 32)
    settlement.done([2, 4])
    async with asyncio.timeout(1):
        await ledger.written.wait()
    settlement.done([1, 3])
    await _turn()

    assert ledger.frames == [(0, [2, 4], []), (3, [], [])]


async def test_holes_that_fill_half_the_window_are_settled_at_once() -> None:
    ledger = Ledger(8)
    settlement = Settlement(ledger, 8)
    settlement.done([2, 3, 4, 5])
    await _turn()

    assert ledger.frames == [(0, [2, 3, 4, 5], [])]


async def test_tags_handed_back_are_stepped_over() -> None:
    ledger = Ledger(5)
    settlement = Settlement(ledger, 32)
    settlement.back([2, 5])
    settlement.done([1, 3, 4])
    settlement.done([2])
    settlement.back([3])
    await _turn()

    assert ledger.returned == {2, 5}
    assert not ledger.unsettled
    assert ledger.frames == [(4, [], [2, 5])]


async def test_what_goes_back_goes_in_the_order_of_delivery() -> None:
    ledger = Ledger(5)
    settlement = Settlement(ledger, 32)
    settlement.back([3, 4, 5])
    settlement.back([2])
    await _turn()

    assert ledger.frames == [(0, [], [2, 3, 4, 5])]


async def test_a_channel_that_cannot_write_is_tried_again() -> None:
    ledger = Ledger(3)
    ledger.writable = False
    settlement = Settlement(ledger, 32)
    settlement.done([1, 2])
    await _turn()
    assert not settlement.flush()
    ledger.writable = True
    async with asyncio.timeout(1):
        await ledger.written.wait()

    assert ledger.unsettled == {3}


async def test_after_the_end_nothing_is_written() -> None:
    ledger = Ledger(3)
    settlement = Settlement(ledger, 32)
    settlement.done([1])
    settlement.end()
    settlement.done([2])
    await _turn()

    assert settlement.flush()
    assert not ledger.frames


@pytest.mark.parametrize('seed', range(20))
async def test_any_order_settles_everything_once(seed: int) -> None:
    """Random orders, repetitions and hand-backs never name a tag that is settled already."""
    chance = random.Random(seed)
    count = 300
    ledger = Ledger(count)
    settlement = Settlement(ledger, 40)
    tags = list(range(1, count + 1)) * 2
    # Near to their order, as concurrent handlers finish.
    tags.sort(key=lambda tag: tag + chance.uniform(0, 40))
    given_back = set()
    for tag in tags:
        if tag % 17 == 0:
            given_back.add(tag)
            settlement.back([tag])
        else:
            settlement.done([tag])
        if chance.random() < 0.3:
            settlement.flush(holes=chance.random() < 0.5)
    assert settlement.flush()
    settlement.end()

    assert not ledger.unsettled
    assert ledger.returned == given_back
