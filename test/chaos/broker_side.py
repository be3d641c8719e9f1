"""What a broker holds for its clients, by its own account."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from test.brokers.kafka import Kafka
from test.brokers.mosquitto import Mosquitto
from test.brokers.process import Broker
from test.brokers.rabbitmq import RabbitMQ

_ESTABLISHED = '01'
_SYSTEM = (
    'clients/connected',
    'clients/total',
    'subscriptions/count',
    'shared_subscriptions/count',
)


async def held_by(broker: Broker, group: str) -> dict[str, int]:
    """Return what the broker has of each kind.

    Args:
        group: The consumer group to look at, on Kafka.
    """
    held = {'TCP connections': _connections(broker.port)}
    if isinstance(broker, RabbitMQ):
        return held | await asyncio.to_thread(_by_rabbitmq, broker)
    if isinstance(broker, Mosquitto):
        return held | await asyncio.to_thread(_by_mosquitto, broker)
    assert isinstance(broker, Kafka)
    members = await broker.members(group)
    return held | {'members': len(members), 'assigned': sum(map(len, members.values()))}


def _by_rabbitmq(broker: RabbitMQ) -> dict[str, int]:
    kinds = {'connections': 'pid', 'channels': 'pid', 'consumers': 'queue_name', 'queues': 'name'}
    return {
        kind: len(broker.control(f'list_{kind}', '--no-table-headers', column).splitlines())
        for kind, column in kinds.items()
    }


def _by_mosquitto(broker: Mosquitto) -> dict[str, int]:
    """Read what it has counted a moment ago, with its own client."""
    command = ['mosquitto_sub', '-h', broker.host, '-p', str(broker.port), '-W', '5']
    command += ['-C', str(len(_SYSTEM)), '-F', '%t %p']
    for name in _SYSTEM:
        command += ['-t', f'$SYS/broker/{name}']
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)
    pairs = [line.split() for line in done.stdout.splitlines()]
    return {topic.removeprefix('$SYS/broker/'): int(count) for topic, count in pairs}


def _connections(port: int) -> int:
    """Return how many clients are connected to a port of this machine, as the kernel knows it."""
    lines = Path('/proc/net/tcp').read_text().splitlines()[1:]
    states = [line.split()[3] for line in lines if line.split()[1].endswith(f':{port:04X}')]
    return states.count(_ESTABLISHED)
