"""What is known of every asset: records and signs of life in any order, junk, reading again."""

from __future__ import annotations

import pytest

from service_scaffold.assets import record as records
from service_scaffold.assets.mirror import Mirror
from service_scaffold.assets.record import AVAIL, Stored
from service_scaffold.assets.watching import Watch
from service_scaffold.clock import ManualClock

LEASE_S = 10.0


class Seen:
    """A mirror, and what it has told of one asset's availability."""

    def __init__(self) -> None:
        self.clock = ManualClock(1000.0)
        self.foreign: list[tuple[str, str]] = []
        self.mirror = Mirror(lambda asset, id, _: self.foreign.append((asset, id)), self.clock)
        self.told: list[object] = []
        view = self.mirror.watched('mill')
        watch = Watch(lambda _: None, lambda *_: None, lambda _: None, AVAIL)  # type: ignore[arg-type]
        watch.tell = lambda attribute: self.told.append(attribute.value)  # type: ignore[method-assign]
        view.watches.append(watch)

    def take(self, id: str, value: object, order: tuple[int, int], host: str = '') -> None:
        epoch, seq = order
        kind = 'system' if id == AVAIL else 'event'
        record = Stored(value, kind, 1.0, epoch, seq, host=host)  # type: ignore[arg-type]
        self.mirror.take(f'mill/{id}', records.encode(record))

    def available(self, epoch: int = 1, host: str = 'a') -> None:
        self.take(AVAIL, 'AVAILABLE', (epoch, 9), host)

    async def late(self) -> None:
        """Let as much time pass as an owner has to show up."""
        await self.clock.advance(LEASE_S)
        self.mirror.judge(self.clock.monotonic() - LEASE_S)


@pytest.fixture
def seen() -> Seen:
    return Seen()


async def test_an_owner_that_is_never_seen_is_lost_in_time_and_back_when_it_is(seen: Seen) -> None:
    seen.available()
    assert seen.mirror.view('mill').available
    await seen.late()
    assert not seen.mirror.view('mill').available
    seen.mirror.present('a')
    assert seen.mirror.view('mill').available
    await seen.late()
    assert seen.told == ['AVAILABLE', 'UNAVAILABLE', 'AVAILABLE']


async def test_an_owner_that_was_seen_first_is_there(seen: Seen) -> None:
    seen.mirror.present('a')
    seen.available()
    await seen.late()
    assert seen.told == ['AVAILABLE']


async def test_an_owner_that_was_lost_before_its_word_came_is_lost_in_time(seen: Seen) -> None:
    seen.mirror.present('a')
    seen.mirror.gone('a')
    seen.available()
    await seen.late()
    assert seen.told == ['AVAILABLE', 'UNAVAILABLE']


async def test_the_loss_of_an_owner_before_says_nothing_of_the_one_now(seen: Seen) -> None:
    for host in ('a', 'b'):
        seen.mirror.present(host)
    seen.available(1, 'a')
    seen.available(2, 'b')
    seen.mirror.gone('a')
    await seen.late()
    assert seen.mirror.view('mill').available
    assert seen.mirror.view('mill').host == 'b'


def test_reading_again_revives_nothing_and_loses_nothing(seen: Seen) -> None:
    for id in ('kept', 'changed', 'removed'):
        seen.take(id, 'old', (1, 1))
    seen.take('changed', 'new', (1, 5))
    seen.mirror.begin()
    seen.take('kept', 'old', (1, 1))
    seen.take('changed', 'old', (1, 1))  # what a crashed broker still has
    assert seen.mirror.end() == {'mill': {'removed'}}
    assert seen.mirror.view('mill').attribute('changed').value == 'new'


def test_a_removal_while_it_is_read_again_counts(seen: Seen) -> None:
    seen.take('wear', 1, (1, 1))
    seen.mirror.begin()
    seen.take('wear', 1, (1, 1))
    seen.mirror.take('mill/wear', None)
    assert 'wear' not in seen.mirror.view('mill')
    assert seen.mirror.end() == {}


@pytest.mark.parametrize(
    'body', [b'', b'\xff', b'1', b'{}', b'{"value": 1}', b'[' * 10_000, b'{"value":NaN}']
)
def test_junk_is_passed_over(seen: Seen, body: bytes) -> None:
    seen.take('wear', 1, (1, 1))
    for key in ('mill/wear', 'other/x', 'mill', '/', ''):
        seen.mirror.take(key, body)
    assert seen.mirror.view('mill').attribute('wear').value == 1
    assert [view.id for view in seen.mirror.known()] == ['mill']


def test_references_come_and_go_from_either_side(seen: Seen) -> None:
    seen.take('above:hall', True, (1, 1))
    record = Stored(True, 'system', 1.0, 1, 1)
    seen.mirror.take('hall/below:mill', records.encode(record))
    seen.mirror.take('mill/above:hall', None)
    assert seen.mirror.above('mill') == {'hall'}
    seen.mirror.take('hall/below:mill', None)
    assert seen.mirror.above('mill') == seen.mirror.below('hall') == set()
    assert not any(view.known for view in seen.mirror.views.values())
