"""How far a partition may be committed."""

from __future__ import annotations

import random

import pytest

from service_scaffold.transports.base import Delivery
from service_scaffold.transports.kafka_shares import Share


class Raw:
    def __init__(self, offset: int) -> None:
        self.offset = offset


def handed(*offsets: int, start: int = 0) -> Share:
    share = Share(start, start)
    share.hand_out([Delivery('t', '', b'', None, b'', False, Raw(offset)) for offset in offsets])
    return share


@pytest.mark.parametrize(
    ('settled', 'lowest'),
    [
        ([[3]], 5),
        ([[3, 5, 6]], 9),
        ([[3, 5, 6, 9]], 10),
        ([[5]], 3),
        ([[9], [5, 6]], 3),
        ([[9], [5, 6], [3]], 10),
        ([[6, 3]], 5),
        ([[3], [3], [5]], 6),
        ([[1, 2, 4, 100]], 3),
        ([[5], [5], [3]], 6),
    ],
)
def test_the_lowest_unfinished_offset(settled, lowest):
    """Nothing is skipped, whatever the order, with gaps in the log, and settled twice."""
    share = handed(3, 5, 6, 9, start=3)
    for offsets in settled:
        share.settle(offsets)

    assert share.lowest_unfinished == lowest


def test_any_order_ends_at_the_position():
    """In every random order the commit only moves forward, never past what is unfinished."""
    chance = random.Random(7)
    for _ in range(200):
        offsets = sorted(chance.sample(range(60), 20))
        share = handed(*offsets)
        left = set(offsets)
        order = chance.sample(offsets, 20)
        while order:
            size = chance.randint(1, 4)
            some, order = order[:size], order[size:]
            share.settle(some)
            left -= set(some)
            assert share.lowest_unfinished == min(left, default=share.position)
            assert share.running == len(left)


@pytest.mark.parametrize(
    ('committed', 'continues'),
    [(3, True), (5, True), (6, True), (7, False), (2, False), (None, False)],
)
def test_a_share_continues_when_nobody_else_has_worked_on_it(committed, continues):
    """Its own commits, even unconfirmed ones, are no reason to begin again; others' are."""
    share = handed(3, 5, 6, start=3)
    share.settle([3, 5])

    assert share.continues(committed) is continues


def test_nothing_committed_yet_continues():
    """As long as nothing is committed by others either."""
    share = Share(0, None)

    assert share.continues(None)
    assert not share.continues(1)
