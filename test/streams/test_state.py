"""The values of one partition: what is committed, and what is not yet, seen as one."""

from __future__ import annotations

import random

import pytest

from service_scaffold.streams.state import PartitionState
from service_scaffold.streams.stores.memory import MemoryBackend


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
