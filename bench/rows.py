"""What is compared with what."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One kind of work, done by several sides.

    Attributes:
        name: For the command line.
        work: For people.
        broker: Which broker is needed: `kafka`, `rabbitmq`, `mosquitto`, or none.
        total: How many messages.
        sides: Name to the script; ours first. Scripts below `peers/` run in their environment.
        targets: Other side to the least ratio of our throughput to its.
        fill: Whether the exchange is filled with `total` messages before each side runs; it is
            declared in any case.
        filler: The module that does it.
        totals: Fewer messages, for sides that take long.
    """

    name: str
    work: str
    broker: str | None
    total: int
    sides: dict[str, str]
    targets: dict[str, float]
    fill: bool = False
    filler: str = 'bench.fill'
    totals: dict[str, int] = field(default_factory=dict)


ROWS = (
    Row(
        'kafka-consume',
        'Kafka group subscription, typed handler, at least once',
        'kafka',
        200_000,
        {
            'ours': 'sides/kafka_consume_ours.py',
            'aiokafka': 'sides/kafka_consume_raw.py',
            'FastStream': 'peers/kafka_consume_faststream.py',
            'Quix Streams': 'peers/kafka_consume_quix.py',
        },
        {'aiokafka': 0.6, 'FastStream': 10, 'Quix Streams': 1.5},
        fill=True,
    ),
    Row(
        'kafka-publish',
        'Kafka `publish_many`',
        'kafka',
        100_000,
        {'ours': 'sides/kafka_publish_ours.py', 'aiokafka': 'sides/kafka_publish_raw.py'},
        {'aiokafka': 0.8},
    ),
    Row(
        'amqp-consume',
        'AMQP group subscription, quorum queue',
        'rabbitmq',
        20_000,
        {
            'ours': 'sides/amqp_consume_ours.py',
            'aio-pika': 'sides/amqp_consume_raw.py',
            'FastStream': 'peers/amqp_consume_faststream.py',
        },
        {'aio-pika': 1.5, 'FastStream': 2.5},
        fill=True,
    ),
    Row(
        'amqp-publish',
        'AMQP `publish_many`, confirmed',
        'rabbitmq',
        20_000,
        {'ours': 'sides/amqp_publish_ours.py', 'aio-pika': 'sides/amqp_publish_raw.py'},
        {'aio-pika': 0.9},
    ),
    Row(
        'mqtt',
        'MQTT QoS 1 in and out',
        'mosquitto',
        10_000,
        {'ours': 'sides/mqtt_roundtrip_ours.py', 'aiomqtt': 'sides/mqtt_roundtrip_raw.py'},
        {'aiomqtt': 0.8},
    ),
    Row(
        'memory',
        'memory, whole pipeline, bytes in between',
        'kafka',
        200_000,
        {'ours': 'sides/memory_ours.py', 'aiokafka + json': 'sides/kafka_consume_json.py'},
        {'aiokafka + json': 0.6},
        fill=True,
    ),
    Row(
        'http',
        'HTTP status on a furnished app',
        None,
        20_000,
        {'ours': 'sides/http_ours.py', 'aiohttp': 'sides/http_raw.py'},
        {'aiohttp': 0.85},
    ),
    Row(
        'agent',
        'streams: agent, stateless, typed value',
        'kafka',
        200_000,
        {
            'ours': 'sides/streams_agent_ours.py',
            'aiokafka': 'sides/kafka_consume_iterator.py',
            'Faust': 'peers/streams_agent_faust.py',
            'Quix Streams': 'peers/kafka_consume_quix.py',
        },
        {'aiokafka': 0.5, 'Faust': 10},
        fill=True,
        filler='bench.fill_topic',
        totals={'Faust': 40_000},
    ),
    Row(
        'table',
        'streams: table increment, durable store, at least once',
        'kafka',
        200_000,
        {
            'ours': 'sides/streams_table_ours.py',
            'aiokafka': 'sides/kafka_consume_iterator.py',
            'Faust': 'peers/streams_table_faust.py',
            'Quix Streams': 'peers/streams_table_quix.py',
        },
        {'aiokafka': 0.4, 'Faust': 30, 'Quix Streams': 1},
        fill=True,
        filler='bench.fill_topic',
        totals={'Faust': 20_000},
    ),
    Row(
        'table-exactly-once',
        'streams: table increment, durable store, exactly once',
        'kafka',
        200_000,
        {
            'ours': 'sides/streams_exactly_ours.py',
            'aiokafka': 'sides/kafka_consume_iterator.py',
            'Quix Streams': 'peers/streams_exactly_quix.py',
        },
        {'aiokafka': 0.4, 'Quix Streams': 1},
        fill=True,
        filler='bench.fill_topic',
    ),
    Row(
        'recovery',
        'streams: cold recovery of a table, durable store',
        'kafka',
        300_000,
        {
            'ours': 'sides/streams_recovery_ours.py',
            'Faust': 'peers/streams_recovery_faust.py',
        },
        {'Faust': 20},
        fill=True,
        filler='bench.fill_changelog',
        totals={'Faust': 40_000},
    ),
)
