"""Runs the rows, interleaved, and prints medians and ratios: `scripts/bench [ROW …]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path

from bench.rows import ROWS, Row
from test.brokers.kafka import Kafka
from test.brokers.mosquitto import Mosquitto
from test.brokers.rabbitmq import RabbitMQ

HERE = Path(__file__).parent
PAGE = HERE.parent / 'docs' / 'benchmarks.md'
BROKERS = {'kafka': Kafka, 'rabbitmq': RabbitMQ, 'mosquitto': Mosquitto}
MARKS = ('<!-- table -->', '<!-- end of table -->')
LIMIT_S = 240
RESULT = '{"messages"'

Figures = dict[str, list[dict[str, float]]]


def main() -> None:
    """Measure the rows that were named, all by default."""
    parser = argparse.ArgumentParser(prog='scripts/bench', description=__doc__)
    parser.add_argument('rows', nargs='*', help=f'default: {" ".join(row.name for row in ROWS)}')
    parser.add_argument('--rounds', type=int, default=3, help='runs of each side [%(default)s]')
    parser.add_argument('--write', action='store_true', help=f'put the table into {PAGE.name}')
    options = parser.parse_args()
    unknown = set(options.rows) - {row.name for row in ROWS}
    if unknown:
        parser.error(f'unknown rows: {", ".join(sorted(unknown))}')
    lines = [
        '| work | side | messages/s | CPU µs each | ratio | target |',
        '|---|---|---|---|---|---|',
    ]
    for row in ROWS:
        if not options.rows or row.name in options.rows:
            lines += report(row, measure(row, options.rounds))
            print('\n'.join(lines[-len(row.sides) :]), flush=True)
    table = '\n'.join(lines)
    print(f'\n{table}')
    if options.write:
        write(table)


def measure(row: Row, rounds: int) -> Figures:
    """Run every side of a row in turn, `rounds` times."""
    figures: Figures = {side: [] for side in row.sides}
    with ExitStack() as stack:
        url = '-'
        if row.broker is not None:
            url = stack.enter_context(BROKERS[row.broker]()).url
        for _ in range(rounds):
            for side in row.sides:
                figure = run(row, side, url)
                if figure is not None:
                    figures[side].append(figure)
    return figures


def run(row: Row, side: str, url: str) -> dict[str, float] | None:
    """Run one side once; None when its environment is not there, or it failed."""
    script = row.sides[side]
    total = row.totals.get(side, row.total)
    python = sys.executable
    if script.startswith('peers/'):
        python = os.environ.get('SERVICE_SCAFFOLD_PEERS', '')
        if not python:
            return None
    exchange = f'bench-{uuid.uuid4().hex[:8]}'
    numbers = [url, str(total), exchange]
    root = HERE.parent
    if row.broker is not None and script != 'sides/memory_ours.py':
        filled = [url, str(total if row.fill else 1), exchange]
        subprocess.run(
            [sys.executable, '-m', row.filler, *filled], check=True, cwd=root, timeout=LIMIT_S
        )
    command = [python, str(HERE / script), *numbers]
    if script.startswith('sides/'):
        command[1:2] = ['-m', f'bench.{script.removesuffix(".py").replace("/", ".")}']
    try:
        done = subprocess.run(
            command, cwd=root, timeout=LIMIT_S, text=True, capture_output=True, check=False
        )
    except subprocess.TimeoutExpired:
        print(f'{script}: not finished within {LIMIT_S} s', file=sys.stderr)
        return None
    # Whatever else a side writes, on the same line too.
    results = [line[at:] for line in done.stdout.splitlines() if (at := line.find(RESULT)) >= 0]
    if not results:
        print(f'{script} failed:\n{done.stderr[-2000:]}', file=sys.stderr)
        return None
    figure: dict[str, float] = json.loads(results[-1])
    return figure


def report(row: Row, figures: Figures) -> list[str]:
    """Return a row's lines of the table: medians, and ratios of our median to each other one."""
    rates = {
        side: statistics.median(f['messages'] / f['seconds'] for f in runs)
        for side, runs in figures.items()
        if runs
    }
    costs = {
        side: statistics.median(f['cpu_s'] / f['messages'] * 1e6 for f in runs)
        for side, runs in figures.items()
        if runs
    }
    lines = []
    for number, side in enumerate(row.sides):
        work = row.work if number == 0 else ''
        if side not in rates:
            lines.append(f'| {work} | {side} | not measured | | | |')
            continue
        ratio = '' if number == 0 else f'{rates["ours"] / rates[side]:.2f}'
        target = f'≥ {row.targets[side]:g}' if side in row.targets else ''
        lines.append(
            f'| {work} | {side} | {rates[side]:,.0f} | {costs[side]:.1f} | {ratio} | {target} |'
        )
    return lines


def write(table: str) -> None:
    """Replace the table in the docs page."""
    page = PAGE.read_text()
    head, _, rest = page.partition(MARKS[0])
    _, _, tail = rest.partition(MARKS[1])
    machine = f'{os.cpu_count()} cores, Python {platform.python_version()}'
    PAGE.write_text(f'{head}{MARKS[0]}\n\n{machine}:\n\n{table}\n\n{MARKS[1]}{tail}')


if __name__ == '__main__':
    main()
