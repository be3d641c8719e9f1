"""Groups from outside, on both journals: who is in one, and forgetting what it has committed."""

from __future__ import annotations

import asyncio

import pytest

from service_scaffold import errors
from service_scaffold.clock import SystemClock
from service_scaffold.journal.base import RebalanceListener, TopicPartition, TopicSpec
from service_scaffold.journal.kafka import KafkaJournal
from service_scaffold.journal.kafka_client import Access
from service_scaffold.journal.memory import MemoryJournal
from service_scaffold.journal.memory_broker import MemoryBroker


@pytest.fixture(params=['memory', 'kafka'])
async def journal(request):
    """A connected journal."""
    if request.param == 'memory':
        made = MemoryJournal(MemoryBroker('test', SystemClock()), who='shop.worker')
    else:
        kafka = request.getfixturevalue('kafka')
        made = KafkaJournal(Access([(kafka.host, kafka.port)], client_id='shop.worker'))
    await made.connect()
    yield made
    await made.close()


class Listener(RebalanceListener):
    def __init__(self) -> None:
        self.joined = asyncio.Event()

    async def on_revoked(self, partitions): ...

    async def on_assigned(self, partitions):
        self.joined.set()


async def member_of(journal, group: str, topic: str):
    """Return a member that has joined, and has committed 7."""
    await journal.create([TopicSpec(topic, 1)])
    listener = Listener()
    member = await journal.member(group, listener)
    await member.subscribe([topic])
    async with asyncio.timeout(15):
        while not listener.joined.is_set():
            await member.fetch(1, 0.05)
    await member.commit({TopicPartition(topic, 0): 7})
    return member


async def committed(journal, group: str, topic: str) -> int | None:
    member = await journal.member(group, Listener())
    where = TopicPartition(topic, 0)
    found = (await member.committed([where]))[where]
    await member.close()
    return None if found is None else found.offset


async def test_members_are_named(journal, unique):
    assert await journal.members(unique) == []

    member = await member_of(journal, unique, unique)
    (name,) = await journal.members(unique)
    await member.close()

    assert 'shop.worker' in name
    assert await journal.members(unique) == []


async def test_what_a_group_has_committed_is_forgotten(journal, unique):
    member = await member_of(journal, unique, unique)
    await member.close()
    assert await committed(journal, unique, unique) == 7

    await journal.forget(unique)

    assert await committed(journal, unique, unique) is None


async def test_a_group_that_never_was_is_passed_over(journal, unique):
    await journal.forget(unique)


async def test_a_group_with_members_is_not_forgotten(journal, unique):
    member = await member_of(journal, unique, unique)

    with pytest.raises(errors.JournalError, match='has members'):
        await journal.forget(unique)
    await member.close()

    assert await committed(journal, unique, unique) == 7


async def test_topics_are_listed_by_the_beginning_of_their_names(journal, unique):
    await journal.create([TopicSpec(name, 1) for name in (f'{unique}-b', f'{unique}-a', 'other')])

    assert await journal.topics(f'{unique}-') == [f'{unique}-a', f'{unique}-b']
    assert 'other' in await journal.topics()
