"""Stores of partitions that have gone to other workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from service_scaffold.clock import ManualClock
from service_scaffold.streams.leftovers import Leftovers
from service_scaffold.streams.stores.base import Backend, open_backend
from service_scaffold.streams.tables.table import Table
from test.streams.routes import PARTITIONS, counting
from test.streams.several import crew_of, until


@pytest.fixture(params=['memory://', 'sqlite://', 'rocksdb://'])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Stores of two partitions, with a key each."""
    backend = open_backend(request.param, tmp_path)
    for number in range(2):
        store = backend.open('counts', number)
        store.write({b'a': b'1'}, b'1')
        store.close()
    return backend


def keys_in(stores: Backend, number: int) -> int:
    store = stores.open('counts', number)
    try:
        return len(store)
    finally:
        store.close()


async def test_what_is_not_used_is_kept_for_a_while_and_then_removed(stores: Backend) -> None:
    """What is used stays, also in between; the time begins again when it goes once more."""
    table = Table('counts', 'changes', partitions=2)
    used = {0}
    clock = ManualClock()
    leftovers = Leftovers(stores, {'counts': table}, lambda _, n: n in used, clock, 600, 30)
    await leftovers.look()
    await clock.advance(599)
    await leftovers.look()
    assert [keys_in(stores, number) for number in range(2)] == [1, 1]
    used.add(1)
    await leftovers.look()
    used.remove(1)
    await leftovers.look()
    await clock.advance(599)
    await leftovers.look()
    assert [keys_in(stores, number) for number in range(2)] == [1, 1]
    await clock.advance(1)
    await leftovers.look()
    assert [keys_in(stores, number) for number in range(2)] == [1, 0]


async def test_a_store_that_is_open_stays(stores: Backend, caplog) -> None:
    """Whoever has it open knows better; it is tried again."""
    table = Table('counts', 'changes', partitions=2)
    leftovers = Leftovers(stores, {'counts': table}, lambda *_: False, ManualClock(), 0, 30)
    store = stores.open('counts', 0)
    await leftovers.look()
    assert len(store) == 1
    assert 'its old store stays' in caplog.text
    store.close()
    await leftovers.look()
    assert keys_in(stores, 0) == 0


@pytest.mark.parametrize('standbys', [0, 1])
async def test_a_worker_has_what_it_owns_and_what_it_follows(any_log, tmp_path, standbys) -> None:
    """Half of the partitions go to another worker: their stores do as well, unless copied here."""
    options = {'store': 'sqlite://', 'directory': tmp_path, 'store_kept_s': 0.5}
    async with crew_of(any_log, counting, standbys=standbys, **options) as crew:
        first = await crew.join()
        await crew.send('orders', *((f'k{n}', b'1') for n in range(40)))
        await until(lambda: sum(first.topology.tables['counts'].values()) == 40)
        await crew.join()
        await until(lambda: len(first.owns('counts')) == PARTITIONS // 2)

        def stored() -> set[int]:
            return {int(path.stem.rpartition('-')[2]) for path in tmp_path.rglob('*0/*.sqlite')}

        if standbys:
            await until(lambda: len(first.copies) == PARTITIONS // 2)
        wanted = set(range(PARTITIONS)) if standbys else first.owns('counts')
        await until(lambda: stored() == wanted)
