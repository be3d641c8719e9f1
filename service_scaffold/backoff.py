"""Growing pauses between attempts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays with a cap.

    Args:
        base_s: The first delay, in seconds.
        factor: What each next delay is multiplied by.
        max_s: No delay is longer than this.
        jitter: With True, each delay is drawn between half of it and the whole.
    """

    base_s: float = 0.2
    factor: float = 2.0
    max_s: float = 10.0
    jitter: bool = True

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after failed attempt number `attempt`, counted from 1."""
        try:
            full = min(self.base_s * self.factor ** (attempt - 1), self.max_s)
        except OverflowError:
            full = self.max_s
        return full * random.uniform(0.5, 1.0) if self.jitter else full

    def __iter__(self) -> Iterator[float]:
        attempt = 0
        while True:
            attempt += 1
            yield self.delay(attempt)
