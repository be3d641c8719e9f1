"""The one writer of an asset, and what the broker says of its records."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
import pytest_asyncio

from service_scaffold import errors
from service_scaffold.assets import record as records
from service_scaffold.assets.mirror import Mirror
from service_scaffold.assets.outbox import Change, Outbox
from service_scaffold.assets.record import AVAIL, Stored
from service_scaffold.assets.writer import Writer
from service_scaffold.clock import ManualClock, SystemClock
from test.events.conftest import until


class Place:
    """What a writer writes to: a broker that remembers, and echoes when it is told to."""

    def __init__(self) -> None:
        self.clock = ManualClock(1e9)
        self.host = 'm'
        self.mirror = Mirror(lambda asset, id, record: None, self.clock)
        self.outbox = Outbox(self._put, SystemClock())
        self.publish_timeout_s = 5.0
        self.loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        self.stored: list[Change] = []
        self.lost = False

    def time(self) -> float:
        return self.clock.time()

    async def _put(self, changes: Sequence[Change]) -> None:
        self.stored += changes
        if self.lost:
            self.lost = False
            raise errors.ConnectionLost('nobody knows what was stored')

    def values(self, id: str) -> list[object]:
        """What the broker got of one attribute, in order."""
        return [
            records.decode(body).value
            for key, body in self.stored
            if body is not None and key == f'mill/{id}'
        ]

    def echo(self, writer: Writer) -> None:
        """Let the writer see what was stored since the last time."""
        stored, self.stored = self.stored, []
        for key, body in stored:
            id = key.partition('/')[2]
            record = None if body is None else records.decode(body)
            self.mirror.put('mill', id, record)
            writer.take(id, record, reading=False)


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Place]:
    place = Place()
    running = asyncio.ensure_future(place.outbox.run())
    yield place
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


@pytest.fixture
def writer(place: Place) -> Writer:
    made = Writer(place, 'mill', lambda: None)
    made.begin()
    return made


def test_an_epoch_is_larger_than_any_before_though_the_clock_goes_back(place: Place) -> None:
    first, second = (Writer(place, 'mill', lambda: None) for _ in range(2))
    first.begin()
    place.mirror.put('mill', 'wear', first.make(1, 'sample'))
    place.clock = ManualClock(place.clock.time() - 3600)
    second.begin()
    assert second.epoch == first.epoch + 1


async def test_a_put_that_failed_but_was_stored_counts_when_it_comes_back(
    place: Place, writer: Writer
) -> None:
    await writer.put({'wear': writer.make(1, 'sample')})
    place.lost = True
    with pytest.raises(errors.PublishError):
        await writer.put({'wear': writer.make(2, 'sample')})
    place.echo(writer)
    writer.restore()
    await until(lambda: bool(place.stored))
    assert place.values('wear') == [2]


async def test_an_older_record_that_is_repeated_after_a_newer_one_is_put_right(
    place: Place, writer: Writer
) -> None:
    older, newer = writer.make(1, 'sample'), writer.make(2, 'sample')
    for record in (older, newer, older):
        writer.take('wear', record, reading=False)
    await until(lambda: bool(place.stored))
    assert place.values('wear') == [2]
    place.echo(writer)
    await asyncio.sleep(0.01)
    assert place.stored == []  # and that is the end of it


async def test_what_a_stale_owner_has_written_is_put_right_once(
    place: Place, writer: Writer
) -> None:
    await writer.put({'wear': writer.make(2, 'sample')})
    place.echo(writer)
    stale = Stored(1, 'sample', 0.0, writer.epoch - 1, 99)
    writer.take('wear', stale, reading=False)
    await until(lambda: bool(place.stored))
    assert place.values('wear') == [2]
    place.echo(writer)
    await asyncio.sleep(0.01)
    assert place.stored == []


async def test_two_owners_of_one_epoch_agree_on_one(place: Place) -> None:
    """Two clocks behind the last owner's would make the same epoch of it."""
    writers = {}
    for host in ('a', 'z'):
        place.host = host
        writers[host] = Writer(place, 'mill', lambda: None)
        writers[host].begin()
    writers['z'].epoch = writers['a'].epoch
    said = {host: one.make('AVAILABLE', 'system', host=host) for host, one in writers.items()}
    for host, one in writers.items():
        place.host = host
        for record in said.values():
            one.take(AVAIL, record, reading=False)
    assert {host: one.fenced for host, one in writers.items()} == {'a': True, 'z': False}


async def test_a_reference_that_was_made_again_at_once_survives_the_late_word_of_its_removal(
    place: Place, writer: Writer
) -> None:
    def made() -> Stored:
        return writer.make(True, 'system', 'Reference')

    await writer.put({'above:hall': made()})
    await writer.put({'above:hall': None})
    await writer.put({'above:hall': made()})
    place.echo(writer)
    assert 'above:hall' in writer.own
    assert place.mirror.above('mill') == {'hall'}


async def test_a_reference_that_the_other_side_took_back_while_nobody_listened_stays_away(
    place: Place, writer: Writer
) -> None:
    await writer.put({AVAIL: writer.make('AVAILABLE', 'system', host='m')})
    await writer.put({'above:hall': writer.make(True, 'system'), 'wear': writer.make(1, 'sample')})
    assert writer.lacks({'above:hall', 'wear'}) == {'wear'}
    assert 'above:hall' not in writer.own


async def test_a_broker_that_has_lost_everything_gets_everything_again(
    place: Place, writer: Writer
) -> None:
    made = {
        AVAIL: writer.make('AVAILABLE', 'system', host='m'),
        'above:hall': writer.make(1, 'event'),
    }
    await writer.put(made)
    place.stored.clear()
    assert writer.lacks(set(made)) == set(made)
    await until(lambda: len(place.stored) == 2)


async def test_what_is_forgotten_is_not_brought_back_by_its_own_echo(
    place: Place, writer: Writer
) -> None:
    await writer.put({'wear': writer.make(1, 'sample')})
    with writer.forgetting():
        await writer.put_raw([('mill/wear', None)])
        place.echo(writer)
        with pytest.raises(errors.AssetUnavailable):
            writer.check()
    await asyncio.sleep(0.01)
    assert place.stored == []


async def test_what_was_removed_before_forgetting_failed_is_published_again(
    place: Place, writer: Writer
) -> None:
    await writer.put({'wear': writer.make(1, 'sample')})
    place.echo(writer)
    place.lost = True
    with pytest.raises(errors.PublishError), writer.forgetting():
        await writer.put_raw([('mill/wear', None)])
    await until(lambda: place.values('wear') == [1])
    writer.check()


async def test_threads_assign_at_once_and_the_last_word_of_each_arrives(
    place: Place, writer: Writer
) -> None:
    def work(id: str) -> None:
        for number in range(300):
            writer.assign(id, number, 'sample', '')
            writer.assign('shared', f'{id}{number}', 'event', '')

    ids = [f'a{n}' for n in range(6)]
    threads = [threading.Thread(target=work, args=(id,)) for id in ids]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        await writer.put({'shared': writer.make('loop', 'event')})
        await asyncio.sleep(0)
    for thread in threads:
        thread.join()
    await until(lambda: all(place.values(id)[-1:] == [299] for id in ids))
    last = writer.own['shared']
    await until(lambda: place.values('shared')[-1] == last.value)
    orders = [
        records.decode(body).order
        for key, body in place.stored
        if body is not None and key == 'mill/shared'
    ]
    assert orders == sorted(orders)
    assert place.mirror.view('mill').records['shared'] == msgspec.structs.replace(last)
