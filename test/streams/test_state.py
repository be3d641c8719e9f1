"""The values of one partition: what is committed, and what is not yet, seen as one."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Mapping

import pytest

from service_scaffold.streams.state import ASIDE, CACHE_BYTES, PartitionState
from service_scaffold.streams.stores.base import Store
from service_scaffold.streams.stores.memory import MemoryBackend, MemoryStore


@pytest.mark.parametrize('seed', range(6))
def test_it_does_as_a_sorted_dict_does(seed):
    """Applied changes, checkpoints that begin, end, and fail to end."""
    chance = random.Random(seed)
    state = PartitionState('table', 0, MemoryBackend().open('table', 0), None)
    model: dict[bytes, bytes] = {}
    flushing = False

    def key() -> bytes:
        return b'%03d' % chance.randrange(120)

    for step in range(300):
        changes = {key(): None if chance.random() < 0.5 else b'%d' % step for _ in range(3)}
        state.apply(changes)
        for name, value in changes.items():
            if value is None:
                model.pop(name, None)
            else:
                model[name] = value
        if chance.random() < 0.2:
            state.take()
            flushing = True
        if flushing and chance.random() < 0.3:
            state.settle(b'1')
            flushing = False
        first, last = sorted((key(), key()))
        expected = sorted(item for item in model.items() if first <= item[0] < last)
        assert list(state.scan(first, last)) == expected
        assert state.first_key(first, last) == (expected[0][0] if expected else None)
        assert len(state) == len(model)
        over = {key(): None, key(): b'own'}
        seen = {k: v for k, v in {**model, **over}.items() if v is not None and first <= k < last}
        assert list(state.scan(first, last, over)) == sorted(seen.items())


class _Slow(MemoryStore):
    """A store whose writes take until they may end."""

    def __init__(self, store: Store) -> None:
        self.__dict__ = store.__dict__
        self.writing = threading.Event()
        self.may_end = threading.Event()

    def write(self, changes: Mapping[bytes, bytes | None], position: bytes) -> None:
        self.writing.set()
        assert self.may_end.wait(10)
        super().write(changes, position)


async def test_what_a_thread_is_writing_is_read_from_here():
    """And what comes meanwhile belongs to the next checkpoint."""
    store = _Slow(MemoryBackend().open('t', 0))
    state = PartitionState('t', 0, store, None)
    state.apply({b'%d' % n: b'old' for n in range(ASIDE)})
    taken = state.take()
    settling = asyncio.ensure_future(state.settle_aside(b'1'))
    assert await asyncio.to_thread(store.writing.wait, 10)
    state.apply({b'1': b'new', b'2': None})

    assert (state.get(b'0'), state.get(b'1'), state.get(b'2')) == (b'old', b'new', None)
    assert len(list(state.scan())) == ASIDE - 1
    store.may_end.set()
    await settling
    assert (store.get(b'1'), store.position) == (b'old', b'1')
    assert (state.get(b'1'), state.dirty) == (b'new', True)
    assert state.take() == {b'1': b'new', b'2': None}
    assert len(taken) == ASIDE


async def test_a_write_in_a_thread_ends_before_what_has_begun_it():
    """Also one that is cut off: else a later write, with a later position, could come before it."""
    store = _Slow(MemoryBackend().open('t', 0))
    state = PartitionState('t', 0, store, None)
    state.apply({b'%d' % n: b'old' for n in range(ASIDE)})
    state.take()
    settling = asyncio.ensure_future(state.settle_aside(b'1'))
    assert await asyncio.to_thread(store.writing.wait, 10)
    settling.cancel()
    await asyncio.sleep(0)
    assert not settling.done()
    store.may_end.set()
    await asyncio.wait({settling})
    assert settling.cancelled()
    assert (store.position, state.dirty) == (b'1', True)

    state.apply({b'x': b'new'})
    assert len(state.take()) == ASIDE + 1
    await state.settle_aside(b'2')
    assert (store.get(b'0'), store.get(b'x'), store.position) == (b'old', b'new', b'2')
    assert not state.dirty


def test_what_is_kept_beside_the_store_is_bounded_in_bytes():
    """A few large values are not read again from memory only: they would fill it."""
    state = PartitionState('table', 0, MemoryBackend().open('table', 0), None)
    large = bytes(CACHE_BYTES // 4)
    for n in range(12):
        state.apply({b'%d' % n: large})
        state.take()
        state.settle(b'1')
        assert state.committed(b'%d' % (n // 2)) == large
        assert sum(map(len, state._cache.values())) <= CACHE_BYTES + len(large)
    state.apply({b'%d' % n: b'new' for n in range(12)} | {b'huge': bytes(CACHE_BYTES + 1)})
    state.take()
    state.settle(b'2')
    assert {state.committed(b'%d' % n) for n in range(12)} == {b'new'}


def test_what_is_deleted_is_not_remembered():
    """Windows end for ever: memory must not grow with their number."""
    state = PartitionState('table', 0, MemoryBackend().open('table', 0), None)
    for number in range(100):
        key = b'%d' % number
        for value in (b'1', None):
            assert state.get(key) == (None if value else b'1')
            state.apply({key: value})
            state.take()
            state.settle(b'1')

    assert state._cache == {}
    assert state.get(b'7') is None
