"""The soak in short, and that it finds what is broken; `scripts/soak` does it for half an hour."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.soak import report
from bench.soak.faults import KINDS, Fault, choose
from bench.soak.processes import Service
from bench.soak.records import Evidence
from bench.soak.run import Plan, Soak
from test.brokers.process import Broker
from test.brokers.required import require_broker
from test.chaos.conftest import KINDS as BROKERS

SHORT = Plan(
    seconds=20,
    rate=100,
    fault_every_s=5,
    kinds=('broker killed', 'connections dropped', 'consumer killed'),
    sample_s=1,
)


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_three_faults_break_no_promise(tmp_path):
    """All brokers at once: nothing confirmed is lost, no process ends, no complaint is logged."""

    def soak(kind: type[Broker]) -> Evidence:
        (directory := tmp_path / kind.name).mkdir()
        return Soak(kind(), SHORT, directory).run()

    for kind in BROKERS:
        require_broker(kind)
    runs = await asyncio.gather(*(asyncio.to_thread(soak, kind) for kind in BROKERS))

    assert [report.broken(evidence) for evidence in runs] == [[]] * len(BROKERS)
    for evidence in runs:
        assert {fault.kind for fault in evidence.faults} == set(SHORT.kinds)
        assert len(evidence.confirmed) > 0.5 * SHORT.rate * SHORT.seconds
        assert report.rows(evidence)['confirmed and lost'] == '0'


class Written:
    """What services would have written in a soak that began at 1000 and had one fault."""

    def __init__(self, directory: Path) -> None:
        self.source = Service('publisher', 'publisher', directory)
        self.sinks = [Service('consumer', name, directory) for name in ('stays', 'victim')]
        for service in (self.source, *self.sinks):
            for path in (service.record, service.samples, service.log):
                path.touch()

    def published(self, *numbers: int, outcome: str = 'confirmed', took_s: float = 0.1) -> None:
        """A number was published that many seconds after the beginning."""
        lines = (f'{outcome} {n} {1000 + n} {1000 + n + took_s} alone\n' for n in numbers)
        _append(self.source.record, lines)

    def handled(self, *numbers: int, late_s: float = 0.2) -> None:
        """A number was handled soon after it had been published."""
        _append(self.sinks[0].record, (f'{n} {1000 + n + late_s} new\n' for n in numbers))

    def sized(self, values: Sequence[int]) -> None:
        """The publisher had so many tasks, and so many MiB."""
        lines = (f'size 7 {1000 + n} {1024 * v} 9 {v} 999\n' for n, v in enumerate(values))
        _append(self.source.samples, lines)

    def evidence(self, *, seconds: float = 100, forgetful: bool = False) -> Evidence:
        """Read it; a broker was killed at 10, and was there again at 15."""
        faults = [Fault('broker killed', 1010, 1015)]
        return Evidence(self.source, self.sinks, faults, 1000, 1000 + seconds, forgetful=forgetful)


def _append(path: Path, lines: object) -> None:
    with path.open('a') as file:
        file.writelines(lines)  # type: ignore[arg-type]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


def test_a_sound_soak_breaks_nothing(written):
    """A publish that failed may be lost, and a duplicate near a fault may be."""
    written.published(*range(100))
    written.handled(*range(100))
    written.published(100, outcome='failed')
    written.handled(12, late_s=5)

    assert report.broken(written.evidence()) == []
    assert len(written.evidence().repeated) == 1


def test_a_lost_message_is_found(written):
    """Confirmed, and never handled."""
    written.published(*range(100))
    written.handled(*(n for n in range(100) if n != 60))

    assert report.broken(written.evidence()) == ['1 confirmed messages were never handled: [60]']


def test_a_forgetful_broker_is_excused_until_its_group_is_back(written):
    """What was published before its end, or after the group's return, is not."""
    written.published(*range(100))
    written.handled(*(n for n in range(100) if n not in (9, 15, 16, 60)))

    evidence = written.evidence(forgetful=True)

    assert evidence.forgotten == {15, 16}
    assert evidence.unexcused == {9, 60}
    assert written.evidence().unexcused == {9, 15, 16, 60}


def test_a_duplicate_without_a_fault_is_found(written):
    """Far from the fault, and before it."""
    written.published(*range(100))
    written.handled(*range(100))
    written.handled(5, 70)

    assert report.broken(written.evidence()) == ['2 duplicates further than 20 s from a fault']


def test_silence_and_slow_publishes_are_found(written):
    """After a fault messages must go on, and a publish has its limit."""
    written.published(*range(99))
    written.handled(*range(10), *range(50, 100))
    written.handled(*range(10, 50), late_s=40)
    written.published(99, took_s=7)

    assert report.broken(written.evidence()) == [
        'a publish took 7.0 s',
        'nothing was handled for 35.0 s after "broker killed"',
    ]


def test_growth_is_found_in_a_long_run(written):
    """Of memory and of tasks."""
    written.published(*range(1000))
    written.handled(*range(1000))
    written.sized(range(50, 100))

    assert report.broken(written.evidence(seconds=1000)) == [
        'publisher grew from 67.5 to 93.5 MiB',
        'publisher: 50 tasks became 88',
    ]


@pytest.mark.parametrize(
    'line',
    [
        'Task exception was never retrieved',
        "RuntimeWarning: coroutine 'work' was never awaited",
        'Task was destroyed but it is pending!',
        'ResourceWarning: unclosed <socket.socket fd=7>',
        'Traceback (most recent call last):',
    ],
)
def test_a_complaint_in_a_log_is_found(written, line):
    """Whoever made it."""
    written.sinks[1].log.write_text(f'fine\n{line}\n')

    (found,) = report.broken(written.evidence(seconds=20))

    assert 'is 1 times in the logs' in found


def test_every_fault_comes_before_one_comes_again():
    """And the seed alone decides in which order."""
    kinds = choose(7)
    first, again = [[next(kinds) for _ in KINDS] for _ in range(2)]
    same = choose(7)

    assert sorted(first) == sorted(again) == sorted(KINDS)
    assert [next(same) for _ in KINDS] == first
