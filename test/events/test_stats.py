"""Plain numbers."""

from __future__ import annotations

from service_scaffold.events.stats import HANDLER_BUCKETS_S, Durations, PublishStats


def test_durations_fall_into_their_buckets() -> None:
    durations = Durations()
    durations.add(0.0005)
    durations.add(0.001)
    durations.add(0.002)
    durations.add(99)
    durations.add_quick(10, 0.001)
    assert durations.counts == [12, 1, *[0] * (len(HANDLER_BUCKETS_S) - 2), 1]
    assert durations.count == 14
    assert durations.sum_s == 0.0005 + 0.001 + 0.002 + 99 + 0.001


def test_publishing_is_counted_by_exchange() -> None:
    stats = PublishStats()
    stats.count('a', 2)
    stats.count('a', 1, 3)
    stats.count('b', 0, 1)
    assert (stats.published, stats.failed) == ({'a': 3}, {'a': 3, 'b': 1})
