"""The soak of streams in short, and that it finds what is broken."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bench.soak import stream_report
from bench.soak.stream_records import StreamEvidence
from bench.soak.stream_run import StreamPlan, StreamService, StreamSoak
from bench.soak.stream_service import KEYS, QUESTIONS
from test.brokers.kafka import Kafka
from test.brokers.required import require_broker

SHORT = StreamPlan(seconds=6, rate=1_000, sample_s=1, window_s=2)


@pytest.mark.alone
@pytest.mark.timeout(240)
async def test_two_workers_lose_nothing_and_count_nothing_twice(tmp_path):
    """Tables, windows, questions and timers, exactly once, on a Kafka of their own."""
    require_broker(Kafka)

    evidence = await asyncio.to_thread(StreamSoak(Kafka(), SHORT, tmp_path).run)

    assert stream_report.broken(evidence) == []
    assert evidence.sent > 0.25 * SHORT.rate * SHORT.seconds  # the machine may be busy
    assert evidence.in_windows == evidence.echoed == evidence.sent
    assert sum(evidence.totals.values()) == evidence.sent
    assert stream_report.rows(evidence)['lost'] == '0'


class Written:
    """What the processes would have written in a soak of `seconds`, which began at 1000."""

    def __init__(self, directory: Path, seconds: int = 100) -> None:
        self.source, self.worker, self.checker = (
            StreamService(role, role, directory) for role in ('source', 'worker', 'checker')
        )
        for service in (self.source, self.worker, self.checker):
            for path in (service.record, service.samples, service.log):
                path.touch()
        self.seconds = seconds
        self.sent = 10 * seconds
        self.totals = Counter(str(number % KEYS) for number in range(self.sent))
        for second in range(seconds):
            at = 1000 + second
            _append(self.source.record, 'sent', 10 * second, 10 * second + 10, at, at + 0.1)
            _append(self.worker.record, 'asked', at, 0.2, QUESTIONS, 0, 0)
            _append(self.worker.record, 'ticked', at, 10 * second, 0)

    def seen(self, echoed: int, twice: int = 0, in_windows: int | None = None) -> None:
        """The checker has told what it has read."""
        in_windows = self.sent if in_windows is None else in_windows
        _append(self.checker.record, 'seen', 1200, echoed, twice, in_windows, 0)

    def sized(self, kib: Sequence[float], tasks: Sequence[int] = (20,)) -> None:
        """The worker had so many KiB, and tasks, in turn."""
        for number, value in enumerate(kib):
            at = 1000 + self.seconds * number / len(kib)
            _append(
                self.worker.samples, 'size', 7, at, int(value), 9, tasks[number % len(tasks)], 5
            )

    def broken(self) -> list[str]:
        end = 1000 + self.seconds
        services = self.source, [self.worker], self.checker
        return stream_report.broken(StreamEvidence(*services, 1000, end, self.totals))


def _append(path: Path, *words: object) -> None:
    with path.open('a') as file:
        file.write(' '.join(map(str, words)) + '\n')


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Written]:
    return lambda **options: Written(tmp_path, **options)


def test_a_sound_soak_breaks_nothing(written):
    soak = written(seconds=1000)
    soak.seen(soak.sent)
    soak.sized([50_000] * 50 + [60_000] * 50)

    assert soak.broken() == []


def test_what_is_lost_or_there_twice_is_found(written):
    soak = written()
    soak.seen(soak.sent - 2, twice=3, in_windows=soak.sent - 5)
    soak.totals['7'] += 1

    assert soak.broken() == [
        '2 confirmed numbers are not in the output',
        '3 numbers are in the output twice',
        '1 keys of the table have a wrong count',
        '5 numbers are missing in closed windows',
    ]


def test_a_number_that_was_not_confirmed_need_not_be_there(written):
    soak = written()
    _append(soak.source.record, 'failed', 7)
    soak.seen(soak.sent - 1, in_windows=soak.sent - 1)
    soak.totals['7'] -= 1

    assert soak.broken() == []


def test_answers_that_fail_or_do_not_come_are_found(written):
    soak = written()
    soak.seen(soak.sent)
    _append(soak.worker.record, 'asked', 1100, 20, QUESTIONS - 3, 1, 2)

    assert soak.broken() == ['1 questions have failed', '2 questions were answered wrong']


def test_memory_that_rises_is_found_in_a_long_run(written):
    """Two per cent in the second half are too much, and so are tasks that become more."""
    soak = written(seconds=1000)
    soak.seen(soak.sent)
    soak.sized([50_000 + 20 * n for n in range(100)], range(20, 120))

    assert soak.broken() == [
        'worker: memory rose by 1.9% in the second half',
        'worker: 20 tasks became 95',
    ]


def test_a_timer_that_loses_ticks_is_found_in_a_long_run(written):
    """Those that it skips on a busy machine are not lost."""
    soak = written(seconds=1000)
    soak.seen(soak.sent)
    soak.sized([50_000] * 100)
    for skipped, lost in ((5000, []), (0, ['worker: a timer knows of 50% of its ticks'])):
        written = soak.worker.record.read_text().replace('ticked', 'tocked')
        soak.worker.record.write_text(f'{written}ticked 1000 0 0\nticked 2000 5000 {skipped}\n')
        assert soak.broken() == lost
