"""What a subscription wants done with its messages: concurrency, retries, dead letters."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from service_scaffold.backoff import Backoff

LONGEST_RETRY_S = 60.0


def _positive(name: str, value: float) -> None:
    if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
        raise ValueError(f'{name} must be above 0, got {value!r}')


@dataclass(frozen=True, slots=True)
class Retry:
    """How often, and with which pauses, a failing message is tried again in this process.

    Args:
        attempts: How often in all, the first time included.
        base_s: Pause after the first failure, in seconds.
        factor: What each next pause is multiplied by.
        max_s: No pause is longer; at most 60.
        jitter: With True, each pause is drawn between half of it and the whole.
    """

    attempts: int = 3
    base_s: float = 0.1
    factor: float = 2.0
    max_s: float = 30.0
    jitter: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, int) or self.attempts < 1:
            raise ValueError(f'attempts must be 1 or more, got {self.attempts!r}')
        if not (math.isfinite(self.base_s) and self.base_s >= 0):
            raise ValueError(f'base_s must be 0 or more, got {self.base_s!r}')
        if not (math.isfinite(self.factor) and self.factor >= 1):
            raise ValueError(f'factor must be 1 or more, got {self.factor!r}')
        if not 0 <= self.max_s <= LONGEST_RETRY_S:
            raise ValueError(
                f'max_s must be 0 to {LONGEST_RETRY_S:g} seconds, got {self.max_s!r}:'
                ' a retry waits in the process and holds its key'
            )

    def delay_s(self, attempt: int) -> float:
        """Return the pause after failed attempt number `attempt`, counted from 1."""
        return Backoff(self.base_s, self.factor, self.max_s, self.jitter).delay(attempt)


@dataclass(frozen=True, slots=True)
class Policy:
    """How one subscription handles its messages.

    Args:
        concurrency: How many messages are handled at once; order per key is kept.
        prefetch: How many unfinished messages the consumer holds; None means
            `max(32, 4 * concurrency)`.
        retry: What happens when the handler raises.
        dead_letter: Whether messages that cannot be handled are kept in the exchange's
            dead-letter store; None means yes for a group, no for a live view.
        timeout_s: Limit of one attempt in seconds; running over is an exception like any other.
        ack: `after` the handler (at least once) or `before` it (at most once).
        start: Where a new group begins: `new` messages, or the `first` that the broker has.
    """

    concurrency: int = 1
    prefetch: int | None = None
    retry: Retry = field(default_factory=Retry)
    dead_letter: bool | None = None
    timeout_s: float | None = None
    ack: Literal['after', 'before'] = 'after'
    start: Literal['new', 'first'] = 'new'

    def __post_init__(self) -> None:
        for name in ('concurrency', 'prefetch'):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f'{name} must be a whole number of 1 or more, got {value!r}')
        if self.timeout_s is not None:
            _positive('timeout_s', self.timeout_s)
        if self.ack not in ('after', 'before'):
            raise ValueError(f"ack must be 'after' or 'before', got {self.ack!r}")
        if self.start not in ('new', 'first'):
            raise ValueError(f"start must be 'new' or 'first', got {self.start!r}")

    @property
    def window(self) -> int:
        """The prefetch in force."""
        return max(32, 4 * self.concurrency) if self.prefetch is None else self.prefetch


LIVE_POLICY = Policy(retry=Retry(attempts=1), dead_letter=False)
"""What a live view without a policy does: one attempt; a failure is logged and counted."""
