"""Plain numbers that listener and publisher keep; whoever wants metrics reads them."""

from __future__ import annotations

from bisect import bisect_left

HANDLER_BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)


class Durations:
    """A histogram of seconds."""

    __slots__ = ('counts', 'sum_s')

    def __init__(self) -> None:
        self.counts = [0] * (len(HANDLER_BUCKETS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.sum_s += seconds
        self.counts[bisect_left(HANDLER_BUCKETS_S, seconds)] += 1

    def add_quick(self, count: int, sum_s: float) -> None:
        """Count durations that are all within the first bucket, by their sum."""
        self.counts[0] += count
        self.sum_s += sum_s

    @property
    def count(self) -> int:
        """How many were counted."""
        return sum(self.counts)


class ConsumeStats:
    """What became of the messages of one subscription.

    Attributes:
        consumed: Handled to the end, whatever the end was.
        failed: Attempts that raised.
        retried: Attempts after the first.
        dead_lettered: Put into the dead-letter store.
        dropped: Given up without a store, or pushed out of a live view's full buffer.
        skipped: Replays meant for another group.
        stale: Handed out, but void before their handler began; delivered again elsewhere.
        in_flight: Handlers running now.
        durations: Seconds per handled message, retries included.
    """

    __slots__ = (
        'consumed',
        'dead_lettered',
        'dropped',
        'durations',
        'failed',
        'in_flight',
        'retried',
        'skipped',
        'stale',
    )

    def __init__(self) -> None:
        self.consumed = 0
        self.failed = 0
        self.retried = 0
        self.dead_lettered = 0
        self.dropped = 0
        self.skipped = 0
        self.stale = 0
        self.in_flight = 0
        self.durations = Durations()


class PublishStats:
    """What one publisher has done.

    Attributes:
        published: Messages per exchange that the broker has confirmed.
        failed: Messages per exchange that it has not.
        late_replies: Answers that came after their request had ended.
    """

    __slots__ = ('failed', 'late_replies', 'published')

    def __init__(self) -> None:
        self.published: dict[str, int] = {}
        self.failed: dict[str, int] = {}
        self.late_replies = 0

    def count(self, exchange: str, published: int, failed: int = 0) -> None:
        """Add to the numbers of one exchange."""
        if published:
            self.published[exchange] = self.published.get(exchange, 0) + published
        if failed:
            self.failed[exchange] = self.failed.get(exchange, 0) + failed
