"""Stream time: what each event's place in it is, and how far finished events let it go."""

from __future__ import annotations

from itertools import accumulate
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from service_scaffold.streams.stream_time import NEVER, Peaks, StreamTimes
from service_scaffold.streams.track import Track


def records(times: list[int], first: int = 0) -> list[SimpleNamespace]:
    return [SimpleNamespace(offset=first + n, timestamp=t) for n, t in enumerate(times)]


@given(st.lists(st.integers(-5, 50)), st.integers(0, 60), st.integers(0, 60))
def test_a_peak_is_the_highest_timestamp_up_to_an_offset(times, forgotten, cut):
    """Fed in two batches of which the second repeats the first, and forgotten below an offset."""
    peaks = Peaks()
    peaks.feed(records(times[:cut]))
    peaks.feed(records(times))
    peaks.forget(forgotten)
    for offset, highest in enumerate(accumulate(times, max)):
        if offset >= forgotten - 1:
            assert peaks.at(offset) == highest
    assert Peaks().at(7) == NEVER


class Follower:
    """An agent that reads two topics and finishes what it is told to."""

    def __init__(self, **topics: int) -> None:
        self.name = 'a'
        self.tracks = {topic: Track(position) for topic, position in topics.items()}

    def take(self, topic: str, count: int) -> None:
        for offset in range(count):
            self.tracks[topic].take(offset)

    def floor(self, state: object) -> int | None:
        return None

    def runs(self, hand: object) -> bool:
        return hand == self.name


def keeper(table: str) -> SimpleNamespace:
    return SimpleNamespace(table=table, feeds=frozenset(), runs=lambda hand: False)


def test_time_goes_as_far_as_events_are_finished_without_a_gap():
    agent = Follower(orders=0)
    times = StreamTimes([agent], lambda _: ['sums'], [keeper('sums')])
    times.feed('orders', records([10, 30, 20, 40]))
    agent.take('orders', 4)
    reached = []
    for offset in (1, 0, 3, 2):
        agent.tracks['orders'].finish(offset)
        reached.append(times.reached('sums'))
    assert reached == [NEVER, 30, 30, 40]


def test_of_several_topics_the_furthest_counts_and_of_several_agents_the_slowest():
    quick, slow = Follower(orders=0), Follower(orders=0, visits=0)
    times = StreamTimes([quick, slow], lambda _: ['sums'], [keeper('sums')])
    times.feed('orders', records([10, 20]))
    times.feed('visits', records([15]))
    for agent in (quick, slow):
        agent.take('orders', 2)
    slow.take('visits', 1)
    for offset in (0, 1):
        quick.tracks['orders'].finish(offset)
    assert times.reached('sums') == NEVER
    slow.tracks['visits'].finish(0)
    assert times.reached('sums') == 15
    slow.tracks['orders'].finish(0)
    slow.tracks['orders'].finish(1)
    assert times.reached('sums') == 20


def test_an_agent_that_does_not_use_the_table_is_not_waited_for():
    user, other = Follower(orders=0), Follower(orders=0)
    times = StreamTimes([user, other], lambda f: ['sums'] if f is user else [], [keeper('sums')])
    times.feed('orders', records([10]))
    user.take('orders', 1)
    other.take('orders', 1)
    user.tracks['orders'].finish(0)
    assert times.reached('sums') == 10


def test_an_agent_whose_use_was_not_foreseen_counts_from_then_on():
    agent = Follower(orders=0)
    times = StreamTimes([agent], lambda _: [], [keeper('sums')])
    times.feed('orders', records([10]))
    agent.take('orders', 1)
    agent.tracks['orders'].finish(0)
    assert times.reached('sums') == NEVER
    times.meet('sums', 'a')
    assert times.reached('sums') == 10
