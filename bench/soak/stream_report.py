"""What a soak of streams has shown: a table, and the promises that were not kept."""

from __future__ import annotations

import statistics

from bench.soak.records import complaints, error_lines
from bench.soak.report import MIB, MORE_TASKS, WARM_S
from bench.soak.stream_records import StreamEvidence

FLAT = 0.01
"""How much the memory of a worker may change in the second half, by a line through it."""
TICKS = 0.99
"""The part of its ticks that a timer knows of at least, run or skipped."""


def broken(evidence: StreamEvidence) -> list[str]:
    """Return the promises that were not kept, in words."""
    found = [failure for service in evidence.services for failure in service.failures]
    figures = {
        'confirmed numbers are not in the output': evidence.lost,
        'numbers are in the output twice': evidence.twice,
        'keys of the table have a wrong count': evidence.miscounted,
        'numbers are missing in closed windows': abs(evidence.sent - evidence.in_windows),
        'windows have closed twice': evidence.windows_twice,
        'questions have failed': evidence.answers['failed'],
        'questions were answered wrong': evidence.answers['wrong'],
    }
    found += [f'{count} {what}' for what, count in figures.items() if count]
    if not evidence.sent:
        found.append('nothing was sent')
    if evidence.answers['right'] < 0.5 * evidence.questions_due:
        found.append(f'only {evidence.answers["right"]} questions of {evidence.questions_due}')
    noted = complaints(evidence.services)
    found += [f'"{what}" is {count} times in the logs' for what, count in noted.items()]
    if evidence.seconds >= WARM_S:
        found += _in_the_long_run(evidence)
    return found


def _in_the_long_run(evidence: StreamEvidence) -> list[str]:
    """Return what only a long run can tell: what grew, and timers that lost ticks."""
    found = []
    for worker in evidence.workers:
        _, known = evidence.ticks(worker)
        if known < TICKS:
            found.append(f'{worker.instance}: a timer knows of {known:.0%} of its ticks')
        rise = evidence.growth(worker, 'rss_kib').rise
        if rise > FLAT:
            found.append(f'{worker.instance}: memory rose by {rise:.1%} in the second half')
        for figure in ('descriptors', 'tasks'):
            before, after = evidence.growth(worker, figure).lows
            if after > before + MORE_TASKS:
                found.append(f'{worker.instance}: {before:.0f} {figure} became {after:.0f}')
    return found


def rows(evidence: StreamEvidence) -> dict[str, str]:
    """Return label to figure."""
    answers, times = evidence.answers, evidence.answer_times or [0.0]
    pace = evidence.sent / evidence.sending_s if evidence.sending_s else 0.0
    figures = {
        'seconds': f'{evidence.seconds:,.0f}',
        'numbers sent': f'{evidence.sent:,} ({pace:,.0f}/s)',
        'sends that failed': f'{len(evidence.failed)}',
        'slowest bundle': f'{evidence.slowest_s:.1f} s',
        'numbers in the output': f'{evidence.echoed:,}',
        'lost': f'{evidence.lost}',
        'twice': f'{evidence.twice}',
        'keys with a wrong count in the table': f'{evidence.miscounted} of {len(evidence.totals)}',
        'numbers in closed windows': f'{evidence.in_windows:,}',
        'windows closed twice': f'{evidence.windows_twice}',
        'questions answered, failed, wrong': (
            f'{answers["right"]:,}, {answers["failed"]}, {answers["wrong"]}'
        ),
        'five questions, median': f'{statistics.median(times):.2f} s',
        'five questions, longest': f'{times[-1]:.2f} s',
    }
    for worker in evidence.workers:
        name = worker.instance
        rss = evidence.growth(worker, 'rss_kib')
        ran, known = evidence.ticks(worker)
        figures[f'{name}: ticks of a timer, run, or skipped'] = f'{ran:.1%}, {known - ran:.1%}'
        figures[f'{name}: RSS MiB, first → last quarter'] = (
            f'{rss.first / MIB:.1f} → {rss.last / MIB:.1f} ({rss.rise:+.2%} in the second half,'
            f' {rss.slope_per_h / MIB:+.1f}/h)'
        )
        for figure in ('blocks', 'tasks', 'descriptors'):
            before, after = evidence.growth(worker, figure).lows
            figures[f'{name}: {figure}, lowest'] = f'{before:,.0f} → {after:,.0f}'
    noted = ', '.join(f'{what} {n}' for what, n in complaints(evidence.services).items())
    figures['complaints in the logs'] = noted or 'none'
    figures['ERROR lines'] = f'{error_lines(evidence.services).total()}'
    return figures


def table(evidence: StreamEvidence) -> str:
    """Return the figures as a Markdown table."""
    lines = ['| | streams |', '|---|---|']
    return '\n'.join([*lines, *(f'| {label} | {what} |' for label, what in rows(evidence).items())])
