"""What the services have written down, and what follows from it."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from bench.soak.faults import BROKER_ENDED, Fault
from bench.soak.processes import Service

RETURN_S = 1.0
"""A broker that came back may have been there so long before its clients were told."""
NEAR_S = 20.0
"""A duplicate so long after the end of a fault is still its doing."""
COMPLAINTS = {
    'never retrieved': r'never retrieved',
    'never awaited': r'never awaited',
    'destroyed': r'was destroyed but it is pending',
    'unclosed': r'ResourceWarning|Unclosed ',
    'traceback': r'^Traceback',
}
_ERROR = re.compile(r'\b(ERROR|CRITICAL)\b')


@dataclass(frozen=True)
class Size:
    """How large one process was at one time.

    Attributes:
        process: Its id.
        at: As of `time.monotonic`.
        rss_kib: Resident memory.
        descriptors: Open files and sockets.
        tasks: Of asyncio.
        blocks: What Python has allocated: objects of every kind and their parts.
    """

    process: int
    at: float
    rss_kib: int
    descriptors: int
    tasks: int
    blocks: int


class Growth:
    """How one figure of one process went.

    Attributes:
        first: Median of the first quarter of the time.
        warm: Median of the second quarter: by then most faults have been, and pools are filled.
        last: Median of the last quarter.
        lows: Lowest of the first and of the last quarter: what is left when nothing is under way.
        slope_per_h: Of the second half, by least squares.
        rise: How much that is over the second half, as a part of its mean.
    """

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        values = [value for _, value in points] or [0.0]
        quarter = max(1, len(values) // 4)
        head, tail = values[:quarter], values[-quarter:]
        self.first = statistics.median(head)
        self.warm = statistics.median(values[quarter : 2 * quarter] or head)
        self.last = statistics.median(tail)
        self.lows = min(head), min(tail)
        self.slope_per_h = self.rise = 0.0
        half = points[len(points) // 2 :]
        if len(half) > 2:
            slope = statistics.linear_regression(*zip(*half, strict=True))[0]
            mean = statistics.fmean(value for _, value in half)
            self.slope_per_h = 3600 * slope
            self.rise = slope * (half[-1][0] - half[0][0]) / mean if mean else 0.0

    @property
    def ratio(self) -> float:
        """Last to warm."""
        return self.last / self.warm if self.warm else 1.0


class Evidence:
    """All records of one transport's soak, read when it is made.

    Args:
        source: The publisher.
        sinks: The consumers; the first was never hit itself.
        faults: All that were, in order.
        began: When publishing began.
        ended: When it ended.
        forgetful: The broker forgets groups at each restart, see docs/transports-mqtt.md.
    """

    def __init__(
        self,
        source: Service,
        sinks: Sequence[Service],
        faults: Sequence[Fault],
        began: float,
        ended: float,
        *,
        forgetful: bool = False,
    ) -> None:
        self.source = source
        self.sinks = tuple(sinks)
        self.faults = tuple(faults)
        self.began = began
        self.ended = ended
        self.forgetful = forgetful
        self.confirmed: dict[int, float] = {}
        self._offered: dict[int, float] = {}
        self.failed = 0
        self.slowest_publish_s = 0.0
        for outcome, number, start, end, how in lines(source.record):
            if outcome == 'confirmed':
                self.confirmed[int(number)] = float(end)
                self._offered[int(number)] = float(start)
            else:
                self.failed += 1
            if how == 'alone':
                self.slowest_publish_s = max(self.slowest_publish_s, float(end) - float(start))
        self.deliveries = sorted(
            (float(at), int(number)) for sink in sinks for number, at, *_ in lines(sink.record)
        )
        self.counts = Counter(number for _, number in self.deliveries)
        self.lost = self.confirmed.keys() - self.counts.keys()

    @property
    def services(self) -> tuple[Service, ...]:
        """Publisher and consumers."""
        return self.source, *self.sinks

    @cached_property
    def times(self) -> list[float]:
        """When anything was handled."""
        return [at for at, _ in self.deliveries]

    @cached_property
    def repeated(self) -> list[float]:
        """When something was handled that had been handled before."""
        seen: set[int] = set()
        times = []
        for at, number in self.deliveries:
            if number in seen:
                times.append(at)
            seen.add(number)
        return times

    @property
    def unprovoked(self) -> list[float]:
        """Those of `repeated` that are not near a fault."""
        return [
            at
            for at in self.repeated
            if not any(f.began <= at <= f.ended + NEAR_S for f in self.faults)
        ]

    @cached_property
    def forgotten(self) -> set[int]:
        """Those of `lost` published between the return of a forgetful broker and of its group."""
        if not self.forgetful:
            return set()
        spans = [
            (fault.ended - RETURN_S, self._return(fault))
            for fault in self.faults
            if fault.kind in BROKER_ENDED
        ]
        return {
            number
            for number in self.lost
            if any(
                start <= self.confirmed[number] and self._offered[number] <= end
                for start, end in spans
            )
        }

    @property
    def unexcused(self) -> set[int]:
        """Those of `lost` for which there is no excuse."""
        return self.lost - self.forgotten

    @cached_property
    def first_handled(self) -> dict[int, float]:
        """When each number came first."""
        return {number: at for at, number in reversed(self.deliveries)}

    @property
    def latest_s(self) -> float:
        """The longest time from a confirm to the first handling."""
        late = (
            at - self.confirmed[number]
            for number, at in self.first_handled.items()
            if number in self.confirmed
        )
        return max(late, default=0.0)

    @property
    def stalls(self) -> list[tuple[float, Fault]]:
        """For each fault, the longest time without a message from its end to the next fault."""
        ends = [fault.began for fault in self.faults[1:]] + [self.ended]
        return [
            (self._longest_gap(fault.ended, max(end, fault.ended)), fault)
            for fault, end in zip(self.faults, ends, strict=True)
        ]

    def growth(self, service: Service, figure: str) -> Growth:
        """Return how a field of `Size` went."""
        return Growth([(size.at, float(getattr(size, figure))) for size in sizes(service)])

    def complaints(self) -> Counter[str]:
        """Count what must not be in a log."""
        return complaints(self.services)

    def errors(self) -> Counter[str]:
        """Count the lines of errors by what they say, numbers left out."""
        return error_lines(self.services)

    def _return(self, fault: Fault) -> float:
        """When a message that was confirmed after a fault was handled first."""
        handled = (
            at
            for at, number in self.deliveries
            if at > fault.ended and self.confirmed.get(number, 0) > fault.ended
        )
        return next(handled, self.ended)

    def _longest_gap(self, start: float, end: float) -> float:
        marks = [start, *(at for at in self.times if start < at < end), end]
        return max(after - before for before, after in pairwise(marks))


def sizes(service: Service) -> list[Size]:
    """Return the samples of a service's last process."""
    found = [
        Size(int(process), float(at), int(rss), int(files), int(tasks), int(blocks))
        for _, process, at, rss, files, tasks, blocks in (
            line for line in lines(service.samples) if line[0] == 'size'
        )
    ]
    return [size for size in found if size.process == found[-1].process]


def complaints(services: Iterable[Service]) -> Counter[str]:
    """Count what must not be in a log."""
    texts = [service.log.read_text(errors='replace') for service in services]
    return Counter(
        {
            name: count
            for name, pattern in COMPLAINTS.items()
            if (count := sum(len(re.findall(pattern, text, re.MULTILINE)) for text in texts))
        }
    )


def error_lines(services: Iterable[Service]) -> Counter[str]:
    """Count the lines of errors by what they say, numbers left out."""
    found = (
        line
        for service in services
        for line in service.log.read_text(errors='replace').splitlines()
    )
    return Counter(re.sub(r'\d+', '#', line)[-120:] for line in found if _ERROR.search(line))


def lines(path: Path) -> Iterator[list[str]]:
    """Give the words of each line; nothing while there is no file."""
    if not path.exists():
        return
    with path.open() as file:
        for line in file:
            if line.endswith('\n'):  # else it is being written
                yield line.split()
