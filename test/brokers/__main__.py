"""Run brokers by hand: `python -m test.brokers kafka rabbitmq`, until interrupted."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack

from test.brokers.kafka import Kafka, make_archive
from test.brokers.mosquitto import Mosquitto
from test.brokers.process import Broker
from test.brokers.rabbitmq import RabbitMQ

BROKERS: dict[str, type[Broker]] = {broker.name: broker for broker in (RabbitMQ, Kafka, Mosquitto)}


def main(arguments: list[str]) -> int:
    """Start the brokers named, print their URLs, stop them at SIGINT or SIGTERM."""
    if arguments == ['--prepare']:
        make_archive()
        return 0
    if arguments == ['--missing']:
        reasons = [reason for broker in BROKERS.values() if (reason := broker.missing())]
        print(*reasons, sep='\n', file=sys.stderr, end='\n' if reasons else '')
        return len(reasons)
    unknown = [name for name in arguments if name not in BROKERS]
    if unknown or not arguments:
        print(f'usage: python -m test.brokers {" | ".join(BROKERS)} ...', file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as running:
        for name in arguments:
            print(running.enter_context(BROKERS[name]()).url, flush=True)
        # A second signal must not cut the stopping short.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        signal.pause()
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
