"""Tests of `service_scaffold.backoff`."""

from __future__ import annotations

from itertools import islice

from service_scaffold.backoff import Backoff


def test_delays_grow_by_the_factor_up_to_the_cap() -> None:
    backoff = Backoff(base_s=1.0, factor=3.0, max_s=10.0, jitter=False)

    assert list(islice(backoff, 4)) == [1.0, 3.0, 9.0, 10.0]
    assert backoff.delay(1) == 1.0


def test_jitter_stays_between_half_and_the_whole() -> None:
    backoff = Backoff(base_s=4.0, factor=1.0)

    delays = [backoff.delay(1) for _ in range(200)]

    assert all(2.0 <= delay <= 4.0 for delay in delays)
    assert len(set(delays)) > 1


def test_very_late_attempts_do_not_overflow() -> None:
    assert Backoff(max_s=30.0, jitter=False).delay(1_000_000) == 30.0
