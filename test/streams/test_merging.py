"""Records of several topics, in the order of their time."""

from __future__ import annotations

import logging
import random
from types import SimpleNamespace

import pytest

from service_scaffold.clock import ManualClock
from service_scaffold.journal.base import TopicPartition
from service_scaffold.streams.merging import Merge
from service_scaffold.streams.node import Node
from service_scaffold.streams.ordering import PATIENCE_S, Ordering
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.track import Note


def record(topic, at, offset=0):
    return SimpleNamespace(topic=topic, timestamp=at, offset=offset)


def taken(records):
    return [(record.topic, record.timestamp) for record in records]


def test_nothing_goes_on_while_a_topic_has_no_record():
    merge = Merge(['a', 'b'])
    assert merge.wanted == []
    merge.put('a', [record('a', 1), record('a', 3)])
    assert merge.take() == []
    assert merge.wanted == ['b']
    assert (merge.waiting('a'), merge.waiting('b')) == (2, 0)
    merge.put('b', [record('b', 2)])
    assert taken(merge.take()) == [('a', 1), ('b', 2)]
    assert merge.wanted == ['b']
    assert merge


def test_a_topic_at_its_end_holds_up_nobody():
    merge = Merge(['a', 'b', 'c'])
    merge.put('a', [record('a', 1), record('a', 3)])
    merge.put('b', [record('b', 2)])
    assert merge.take(['b']) == [], 'c may bring an earlier one'
    assert taken(merge.take(['b', 'c'])) == [('a', 1), ('b', 2), ('a', 3)]
    assert not merge


def test_of_equal_times_the_topic_named_first_goes_first():
    merge = Merge(['a', 'b'])
    merge.put('b', [record('b', 1)])
    merge.put('a', [record('a', 1)])
    assert taken(merge.take(['a', 'b'])) == [('a', 1), ('b', 1)]


@pytest.mark.parametrize('seed', range(5))
def test_however_records_come_the_order_is_the_same(seed):
    rng = random.Random(seed)
    sides = {t: [record(t, at) for at in sorted(rng.sample(range(100), 30))] for t in 'ab'}
    whole = sorted((r for side in sides.values() for r in side), key=lambda r: r.timestamp)
    merge, found = Merge(sides), []
    rest = {topic: list(side) for topic, side in sides.items()}
    while any(rest.values()):
        topic = rng.choice([topic for topic, side in rest.items() if side])
        count = rng.randrange(1, 6)
        merge.put(topic, rest[topic][:count])
        del rest[topic][:count]
        found += merge.take()
    found += merge.take('ab')
    assert taken(found) == taken(whole)


def test_who_holds_records_back_is_not_idle():
    app = Topology(StreamSettings('shop'))
    a, b = app.topic('a'), app.topic('b')

    @app.agent(a.stream() & b.stream())
    async def both(stream): ...

    node = Node(both, SimpleNamespace(held=False), ManualClock())
    for topic in node.topics:
        node.begin(topic, 0, Note())
    assert node.idle
    node.feed('a', [record('a', 1)])
    assert not node.idle
    assert (node.waiting('a'), node.waiting('b'), node.wanted) == (1, 0, ['b'])


class Broker:
    """As much of a journal and of a member as `Ordering` asks for."""

    def __init__(self, ends, positions):
        self.ends = ends
        self.positions = positions
        self.asked = 0

    async def offsets(self, partitions, at):
        self.asked += 1
        return {where: self.ends[where.topic] for where in partitions}

    def position(self, where: TopicPartition):
        return self.positions[where.topic]


class Held:
    """A task that is held up."""

    phase = 'running'
    number = 0

    def __init__(self, *wanted):
        self.wanted = set(wanted)
        self.exhausted = []

    def flow(self, exhausted):
        self.exhausted += exhausted


async def test_only_what_has_been_fetched_to_its_end_is_not_waited_for():
    broker = Broker({'a': 5, 'b': 5}, {'a': 5, 'b': 4})
    ordering, task = Ordering(broker, broker, ManualClock()), Held('a', 'b')
    await ordering.go_on([task])
    assert task.exhausted == ['a']
    assert ordering.waiting


async def test_an_end_that_is_not_reached_is_not_asked_for_again():
    broker = Broker({'a': 5}, {'a': 0})
    ordering, task = Ordering(broker, broker, ManualClock()), Held('a')
    for _ in range(3):
        await ordering.go_on([task])
    assert broker.asked == 1
    broker.positions['a'], broker.ends['a'] = 5, 7
    await ordering.go_on([task])
    assert broker.asked == 2
    assert task.exhausted == [], 'there is more by now'


async def test_who_waits_for_nothing_asks_nothing():
    broker = Broker({}, {})
    ordering = Ordering(broker, broker, ManualClock())
    await ordering.go_on([Held()])
    assert (broker.asked, ordering.waiting) == (0, False)


async def test_records_that_never_come_are_waited_for_with_a_limit(caplog):
    clock = ManualClock()
    broker = Broker({'a': 5}, {'a': 0})
    ordering, task = Ordering(broker, broker, clock), Held('a')
    await ordering.go_on([task])
    await clock.advance(PATIENCE_S - 1)
    await ordering.go_on([task])
    assert task.exhausted == []
    await clock.advance(1)
    with caplog.at_level(logging.WARNING):
        await ordering.go_on([task])
    assert task.exhausted == ['a']
    assert 'a/0: no record up to 5 came for 30 s' in caplog.text
