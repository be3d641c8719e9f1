"""Runs the soak and prints what it has shown: `scripts/soak [TRANSPORT …]`."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.soak import report, stream_report
from bench.soak.records import Evidence, error_lines
from bench.soak.run import Plan, Soak
from bench.soak.stream_run import StreamPlan, StreamSoak
from test.brokers.kafka import Kafka
from test.brokers.mosquitto import Mosquitto
from test.brokers.process import Broker
from test.brokers.rabbitmq import RabbitMQ

BROKERS: dict[str, type[Broker]] = {kind.name: kind for kind in (RabbitMQ, Kafka, Mosquitto)}


def main() -> int:
    """Soak the transports that were named, all by default, side by side."""
    options = arguments()
    if options.streams:
        return soak_streams(options)
    names = options.transports or list(BROKERS)
    if reasons := [reason for name in names if (reason := BROKERS[name].missing())]:
        print(*reasons, sep='\n', file=sys.stderr)
        return 2
    plan = Plan(options.minutes * 60, options.rate or 200, options.fault_every, options.seed)
    directory = options.keep or Path(tempfile.mkdtemp(prefix='soak-'))
    say(f'{" ".join(names)}: {plan}\nrecords and logs: {directory}')
    return tell(soak(names, plan, directory), directory)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='scripts/soak',
        description='Let services work for a long time while faults happen. Status 1: a promise '
        'was not kept. SIGINT ends it early, with a report.',
    )
    parser.add_argument(
        'transports', nargs='*', metavar='TRANSPORT', help=f'default: {" ".join(BROKERS)}'
    )
    parser.add_argument('--minutes', type=float, default=30, help='how long [%(default)s]')
    parser.add_argument(
        '--streams', action='store_true', help='agents, tables, timers on Kafka, without faults'
    )
    parser.add_argument('--rate', type=float, help='messages a second [200; with --streams 5000]')
    parser.add_argument(
        '--workers', type=int, default=2, help='with --streams: processes [%(default)s]'
    )
    parser.add_argument(
        '--fault-every', type=float, default=60, help='seconds between faults [%(default)s]'
    )
    parser.add_argument('--seed', type=int, default=0, help='which faults [%(default)s]')
    parser.add_argument('--keep', type=Path, help='directory for the records [a temporary one]')
    options = parser.parse_args()
    if unknown := set(options.transports) - BROKERS.keys():
        parser.error(f'unknown transports: {", ".join(sorted(unknown))}')
    if options.streams and set(options.transports) - {'kafka'}:
        parser.error('--streams is for kafka')
    return options


def say(what: str) -> None:
    """Tell whoever watches."""
    print(what, file=sys.stderr, flush=True)


def ending() -> threading.Event:
    """Return what is set by SIGINT or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    return ended


def soak_streams(options: argparse.Namespace) -> int:
    """Soak streams, print the report, and return the status of the process."""
    if reason := Kafka.missing():
        say(reason)
        return 2
    plan = StreamPlan(options.minutes * 60, options.rate or 5_000, options.workers)
    directory = options.keep or Path(tempfile.mkdtemp(prefix='soak-'))
    directory.mkdir(parents=True, exist_ok=True)
    say(f'{plan}\nrecords and logs: {directory}')
    evidence = StreamSoak(Kafka(), plan, directory, ending()).run()
    print(stream_report.table(evidence))
    for line, count in error_lines(evidence.services).most_common(5):
        print(f'{count} times {line}')
    failures = stream_report.broken(evidence)
    for sentence in failures:
        print(f'BROKEN: {sentence}')
    if failures:
        print(f'Promises were broken; records and logs: {directory}')
    return int(bool(failures))


def soak(names: list[str], plan: Plan, directory: Path) -> dict[str, Evidence | BaseException]:
    """Run every transport in a thread of its own; one that fails does not end the others."""
    ended = ending()
    runs = {}
    for name in names:
        (place := directory / name).mkdir(parents=True)
        runs[name] = Soak(BROKERS[name](), plan, place, ended)
    with ThreadPoolExecutor(len(runs)) as threads:
        done = {name: threads.submit(run.run) for name, run in runs.items()}
    return {name: future.exception() or future.result() for name, future in done.items()}


def tell(runs: dict[str, Evidence | BaseException], directory: Path) -> int:
    """Print the report; return the status of the process."""
    failures = {
        name: [f'it could not go on: {e!r}']
        for name, e in runs.items()
        if isinstance(e, BaseException)
    }
    evidences = {name: e for name, e in runs.items() if isinstance(e, Evidence)}
    if evidences:
        print(report.table(evidences))
    for name, evidence in evidences.items():
        failures[name] = report.broken(evidence)
        for line, count in evidence.errors().most_common(5):
            print(f'{name}: {count} times {line}')
    for name, sentences in failures.items():
        for sentence in sentences:
            print(f'{name}: BROKEN: {sentence}')
    if any(failures.values()):
        print(f'Promises were broken; records and logs: {directory}')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
