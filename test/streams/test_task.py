"""One partition number at work: that its end is an end, whatever fails on the way."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold import errors
from service_scaffold.clock import ManualClock
from service_scaffold.journal.base import NewRecord
from service_scaffold.streams.checkpoint import Committer, Snapshot
from service_scaffold.streams.state import PartitionState
from service_scaffold.streams.stores.memory import MemoryBackend
from service_scaffold.streams.task import Task


class Broken(Committer):
    """Ends as it is told to."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    def send(self, records: list[NewRecord]) -> None:
        raise AssertionError

    def take(self, snapshot: Snapshot) -> None:
        raise AssertionError

    async def commit(self, snapshot: Snapshot) -> None:
        raise AssertionError

    @property
    def dirty(self) -> bool:
        return False

    async def close(self) -> None:
        if self.error is None:
            await asyncio.Event().wait()
        else:
            raise self.error


def spawn(work, name):
    return asyncio.get_running_loop().create_task(work, name=name)


def task_with(stores: MemoryBackend, error: BaseException | None) -> Task:
    task = Task(0, 1, [], ManualClock(), stopped=lambda error: None)
    state = PartitionState('counts', 0, stores.open('counts', 0), None)
    task.begin({}, {'counts': state}, Broken(error), spawn)
    return task


async def test_a_task_lets_go_of_its_stores_though_its_producer_fails_to_end():
    stores = MemoryBackend()
    task = task_with(stores, errors.ConnectionLost('gone'))
    with pytest.raises(errors.ConnectionLost):
        await task.close()
    assert stores.in_use == []
    stores.open('counts', 0).close()


async def test_a_task_lets_go_of_its_stores_though_its_end_is_cancelled():
    stores = MemoryBackend()
    ending = asyncio.ensure_future(task_with(stores, None).close())
    await asyncio.sleep(0)
    ending.cancel()
    await asyncio.wait({ending})
    assert stores.in_use == []
