"""What a soak has shown: a table, and the promises that were not kept."""

from __future__ import annotations

from collections.abc import Mapping

from bench.soak.processes import PUBLISH_TIMEOUT_S
from bench.soak.records import NEAR_S, Evidence

MIB = 1024
STALL_S = 30.0
SPARE_S = 1.0
"""How much later than its limit a publish may end on a busy machine."""
GROWTH = 1.10
MORE_TASKS = 5
WARM_S = 600.0
"""A shorter run says nothing about growth: the first faults fill the pools of the allocator."""


def broken(evidence: Evidence) -> list[str]:
    """Return the promises that were not kept, in words."""
    found = [failure for service in evidence.services for failure in service.failures]
    if lost := evidence.unexcused:
        found.append(f'{len(lost)} confirmed messages were never handled: {sorted(lost)[:10]}')
    if unprovoked := evidence.unprovoked:
        found.append(f'{len(unprovoked)} duplicates further than {NEAR_S:.0f} s from a fault')
    if evidence.slowest_publish_s > PUBLISH_TIMEOUT_S + SPARE_S:
        found.append(f'a publish took {evidence.slowest_publish_s:.1f} s')
    stall_s, fault = max(evidence.stalls, key=lambda stall: stall[0], default=(0.0, None))
    if fault and stall_s > STALL_S:
        found.append(f'nothing was handled for {stall_s:.1f} s after "{fault.kind}"')
    complaints = evidence.complaints()
    found += [f'"{what}" is {count} times in the logs' for what, count in complaints.items()]
    if evidence.ended - evidence.began >= WARM_S:
        found += _grown(evidence)
    return found


def _grown(evidence: Evidence) -> list[str]:
    """Return what grew in the processes that lived all the time."""
    found = []
    for service in evidence.services[:2]:
        rss = evidence.growth(service, 'rss_kib')
        if rss.ratio > GROWTH:
            found.append(f'{service.instance} grew from {_mib(rss.warm)} to {_mib(rss.last)} MiB')
        for figure in ('descriptors', 'tasks'):
            before, after = evidence.growth(service, figure).lows
            if after > before + MORE_TASKS:
                what = f'{before:.0f} {figure} became {after:.0f}'
                found.append(f'{service.instance}: {what}')
    return found


def table(runs: Mapping[str, Evidence]) -> str:
    """Return the figures as a Markdown table, a column for each transport."""
    columns = [rows(evidence) for evidence in runs.values()]
    lines = [f'| | {" | ".join(runs)} |', f'|---{"|---" * len(runs)}|']
    for label in columns[0]:
        lines.append(f'| {label} | {" | ".join(column[label] for column in columns)} |')
    return '\n'.join(lines)


def rows(evidence: Evidence) -> dict[str, str]:
    """Return label to figure of one transport."""
    stall_s, fault = max(evidence.stalls, key=lambda stall: stall[0], default=(0.0, None))
    figures = {
        'seconds': f'{evidence.ended - evidence.began:,.0f}',
        'faults': f'{len(evidence.faults)}',
        'confirmed': f'{len(evidence.confirmed):,}',
        'publish errors': f'{evidence.failed:,}',
        'handled': f'{len(evidence.counts):,}',
        'confirmed and lost': f'{len(evidence.unexcused)}',
        'lost while a forgetful broker knew no group': f'{len(evidence.forgotten):,}',
        'duplicates': f'{len(evidence.repeated):,}',
        f'duplicates > {NEAR_S:.0f} s from a fault': f'{len(evidence.unprovoked)}',
        'slowest publish, limit 5 s': f'{evidence.slowest_publish_s:.1f} s',
        'longest silence after a fault': f'{stall_s:.1f} s ({fault.kind if fault else "-"})',
        'latest delivery': f'{evidence.latest_s:.1f} s',
    }
    for service in evidence.services[:2]:
        rss = evidence.growth(service, 'rss_kib')
        figures[f'RSS MiB of {service.role}, first → last quarter'] = (
            f'{_mib(rss.first)} → {_mib(rss.last)} ({rss.slope_per_h / MIB:+.1f}/h)'
        )
        for figure in ('blocks', 'tasks', 'descriptors'):
            before, after = evidence.growth(service, figure).lows
            figures[f'{figure} of {service.role}, lowest'] = f'{before:,.0f} → {after:,.0f}'
    complaints = ', '.join(f'{what} {n}' for what, n in evidence.complaints().items())
    figures['complaints in the logs'] = complaints or 'none'
    figures['ERROR lines'] = f'{evidence.errors().total()}'
    return figures


def _mib(kib: float) -> str:
    return f'{kib / MIB:.1f}'
