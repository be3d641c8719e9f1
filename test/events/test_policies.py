"""Policies: what is not possible is refused at once."""

from __future__ import annotations

import pytest

from service_scaffold import events


@pytest.mark.parametrize(
    'wrong',
    [
        {'attempts': 0},
        {'attempts': 1.5},
        {'base_s': -1},
        {'base_s': float('nan')},
        {'factor': 0.5},
        {'max_s': 60.1},
        {'max_s': -1},
    ],
)
def test_a_retry_that_cannot_be_is_a_value_error(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        events.Retry(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    'wrong',
    [
        {'concurrency': 0},
        {'concurrency': 1.5},
        {'prefetch': 0},
        {'timeout_s': 0},
        {'timeout_s': float('inf')},
        {'ack': 'never'},
        {'start': 'last'},
    ],
)
def test_a_policy_that_cannot_be_is_a_value_error(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        events.Policy(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize('after_s', [-1, 60.1, float('nan')])
def test_retry_later_than_a_minute_is_a_value_error(after_s: float) -> None:
    with pytest.raises(ValueError, match='after_s'):
        events.RetryLater(after_s)


def test_defaults_are_the_promised_ones() -> None:
    policy = events.Policy()
    assert (policy.concurrency, policy.window, policy.ack, policy.start) == (1, 32, 'after', 'new')
    assert events.Policy(concurrency=100).window == 400
    assert events.Policy(prefetch=5).window == 5
    assert policy.retry == events.Retry(3, 0.1, 2.0, 30.0, jitter=True)


def test_pauses_grow_to_the_cap_and_jitter_halves_at_most() -> None:
    plain = events.Retry(base_s=1, factor=3, max_s=5, jitter=False)
    assert [plain.delay_s(attempt) for attempt in (1, 2, 3)] == [1, 3, 5]
    drawn = [events.Retry(base_s=1, max_s=60).delay_s(2) for _ in range(200)]
    assert 1 <= min(drawn) < max(drawn) <= 2
