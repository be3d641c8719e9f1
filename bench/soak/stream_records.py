"""What the processes of the soak of streams have written down, and what follows from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from bench.soak.processes import Service
from bench.soak.records import Growth, lines, sizes
from bench.soak.stream_service import ASK_EVERY_S, KEYS, QUESTIONS, TIMER_S


class StreamEvidence:
    """All records of one soak, read when it is made.

    Args:
        source: Has sent numbers.
        workers: Have counted them.
        checker: Has read what they have committed.
        began: When sending began.
        ended: When it ended.
        totals: The table of all workers: key to count.

    Attributes:
        sent: Numbers that were confirmed.
        failed: Those that were not; they may be there or not.
        slowest_s: The longest time of one bundle.
        sending_s: From the first bundle to the last.
        echoed: Numbers in the output.
        twice: Those that were there again.
        in_windows: Numbers in the windows that have closed.
        windows_twice: Windows of a key that have closed again.
    """

    def __init__(
        self,
        source: Service,
        workers: Sequence[Service],
        checker: Service,
        began: float,
        ended: float,
        totals: Mapping[str, int],
    ) -> None:
        self.source = source
        self.workers = tuple(workers)
        self.checker = checker
        self.began = began
        self.ended = ended
        self.totals = totals
        self.failed: set[int] = set()
        self.slowest_s = 0.0
        offered = 0
        spans: list[float] = []
        for what, *rest in lines(source.record):
            if what == 'failed':
                self.failed.add(int(rest[0]))
            else:
                offered = int(rest[1])
                spans += map(float, rest[2:])
                self.slowest_s = max(self.slowest_s, float(rest[3]) - float(rest[2]))
        self._offered = offered
        self.sending_s = max(spans, default=0.0) - min(spans, default=0.0)
        self.sent = offered - len(self.failed)
        self.echoed = self.twice = self.in_windows = self.windows_twice = 0
        self.missing: list[int] = []
        for what, *rest in lines(checker.record):
            if what == 'missing':
                self.missing = [int(number) for number in rest]
            else:
                self.echoed, self.twice, self.in_windows, self.windows_twice = map(int, rest[1:])

    @property
    def services(self) -> tuple[Service, ...]:
        """All processes."""
        return self.source, *self.workers, self.checker

    @property
    def seconds(self) -> float:
        """How long numbers were sent."""
        return self.ended - self.began

    @property
    def lost(self) -> int:
        """How many of the confirmed numbers are not in the output."""
        return max(0, self.sent - self.echoed)

    @property
    def miscounted(self) -> int:
        """How many keys of the table have another count than numbers were sent."""
        whole, rest = divmod(self._offered, KEYS)
        wanted = {str(key): whole + (key < rest) for key in range(KEYS)}
        for number in self.failed:
            wanted[str(number % KEYS)] -= 1
        keys = wanted.keys() | self.totals.keys()
        return sum(wanted.get(key, 0) != self.totals.get(key, 0) for key in keys)

    @property
    def answers(self) -> Counter[str]:
        """How many questions were answered right, failed, or were answered wrong."""
        found: Counter[str] = Counter()
        for worker in self.workers:
            for what, *rest in lines(worker.record):
                if what == 'asked':
                    right, failed, wrong = map(int, rest[2:])
                    found.update(right=right, failed=failed, wrong=wrong)
        return found

    @property
    def questions_due(self) -> int:
        """How many questions the timers should have asked while numbers were sent."""
        return int(self.seconds / ASK_EVERY_S) * QUESTIONS * len(self.workers)

    @property
    def answer_times(self) -> list[float]:
        """Seconds that each round of questions took, sorted."""
        return sorted(
            float(rest[1])
            for worker in self.workers
            for what, *rest in lines(worker.record)
            if what == 'asked'
        )

    def ticks(self, worker: Service) -> tuple[float, float]:
        """Return the parts of the ticks due that a timer ran at, and that it knows of at all.

        It skips a tick that the machine is too busy for, and counts it.
        """
        told = [rest for what, *rest in lines(worker.record) if what == 'ticked']
        if len(told) < 2:
            return 0.0, 0.0
        first, last = ([float(word) for word in rest] for rest in (told[0], told[-1]))
        passed_s, runs, skipped = (
            after - before for before, after in zip(first, last, strict=True)
        )
        due = passed_s / TIMER_S
        return runs / due, (runs + skipped) / due

    def growth(self, service: Service, figure: str) -> Growth:
        """Return how a field of `Size` went while numbers were sent."""
        found = [size for size in sizes(service) if size.at <= self.ended]
        return Growth([(size.at, float(getattr(size, figure))) for size in found])
