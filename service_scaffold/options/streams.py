"""The options of streams, one table: flag, environment variable, file key, keyword."""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Callable, Mapping

from service_scaffold.options import declaration, values
from service_scaffold.options import stream_values as kinds
from service_scaffold.options.declaration import Option


def _seconds(name: str, help: str, default: float | None = None, *, zero: bool = False) -> Option:
    kind = values.seconds if zero else values.limit_s
    return Option(name, help, type=kind, default=default, metavar='S')


def _count(
    name: str, help: str, default: int | None = None, kind: Callable[[str], object] = kinds.count
) -> Option:
    return Option(name, help, type=kind, default=default, metavar='N')


BROKER_OPTIONS = (
    Option(
        'streams-url',
        'Where the log of streams is: kafka:// kafka+ssl:// or memory:// [the event bus]',
        type=kinds.log_url,
        metavar='URL',
        aliases=('--broker',),
    ),
    Option(
        'broker-consumer',
        'Where records are read from; it is the cluster of --broker-producer [--streams-url]',
        type=kinds.log_url,
        metavar='URL',
    ),
    Option(
        'broker-producer',
        'Where records are sent to; it is the cluster of --broker-consumer [--streams-url]',
        type=kinds.log_url,
        metavar='URL',
    ),
    Option(
        'broker-credentials',
        'USER:PASSWORD for the broker, instead of those in the URL',
        type=kinds.credentials,
        secret=True,
        metavar='USER:PASSWORD',
    ),
    Option(
        'ssl-context',
        'TLS to the broker: package.module:NAME of an ssl.SSLContext [--eventbus-ca, -cert, -key]',
        takes=(ssl.SSLContext,),
        metavar='NAME',
    ),
    _seconds('broker-commit-interval', 'Seconds between checkpoints [2.8; exactly-once 0.2]'),
    _count('broker-commit-every', 'Records after which a checkpoint comes early [never]'),
    _seconds(
        'broker-commit-livelock-soft-timeout',
        'Warn of commits that stand still for so long while records wait [%(default)s]',
        300.0,
    ),
    _seconds(
        'broker-commit-livelock-hard-timeout',
        'Stop, with status 1, when they stand still for so long [%(default)s]',
        600.0,
    ),
    _seconds(
        'broker-session-timeout',
        'A worker that is not heard of for so long loses its partitions [10]',
    ),
    _seconds(
        'broker-heartbeat',
        'Seconds between signs of life; 0 is a third of the session, at most 1 [%(default)s]',
        0.0,
        zero=True,
    ),
    _seconds('broker-request-timeout', "Limit of one request to the broker [the client's]"),
    Option(
        'broker-retry-backoff-type',
        'How pauses before connecting again grow [%(default)s]',
        default='exponential',
        choices=('exponential', 'constant'),
    ),
    _seconds('broker-retry-delay', 'The first of these pauses [%(default)s]', 0.1),
    _seconds('broker-retry-max-delay', 'The longest of these pauses [%(default)s]', 32.0),
    Option('broker-api-version', 'Without effect: it is agreed on with the broker', default='auto'),
    Option(
        'processing-guarantee',
        'at_most_once, at_least_once or exactly_once [%(default)s]',
        default='at_least_once',
        choices=('at_most_once', 'at_least_once', 'exactly_once'),
    ),
)

TOPIC_OPTIONS = (
    _count('topic-partitions', "Partitions of topics that are made here [the broker's default]"),
    _count('topic-replication-factor', "Copies of these topics [the broker's default]"),
    Option('topic-allow-declare', 'Make missing topics [yes]', switch=True, default=True),
    Option('topic-disable-leader', 'Do without a leader among the workers', switch=True),
    Option('key-serializer', 'Codec of keys of topics that name none [text]'),
    Option('value-serializer', 'Codec of values of topics that name none [json]'),
)

STREAM_OPTIONS = (
    _count('stream-buffer-maxsize', 'Records of a partition that may wait [%(default)s]', 4096),
    Option(
        'stream-wait-empty',
        'Wait for events in hand before partitions are given away [yes]',
        switch=True,
        default=True,
    ),
    Option(
        'stream-ack-cancelled-tasks',
        'Without effect: an event that was cut off is handled again',
        switch=True,
        default=True,
    ),
    Option(
        'stream-ack-exceptions',
        'An event that fails for good goes to the dead letters; without, all stops at it [yes]',
        switch=True,
        default=True,
    ),
    Option(
        'stream-publish-on-commit',
        'Send nothing before the checkpoint; exactly-once always does so',
        switch=True,
    ),
    _seconds(
        'stream-recovery-delay',
        'Pause before tables are recovered [%(default)s]',
        0.0,
        zero=True,
    ),
    _seconds(
        'stream-processing-timeout', 'Warn of an event in hand for so long [%(default)s]', 300.0
    ),
)

PRODUCER_OPTIONS = (
    _seconds('producer-linger', 'Wait so long for more to send [%(default)s]', 0.0, zero=True),
    _count('producer-max-batch-size', 'Bytes of a partition sent together [%(default)s]', 65536),
    _count('producer-max-request-size', 'Bytes of the largest record [%(default)s]', 67_108_864),
    Option(
        'producer-acks',
        "Confirms that a record needs: -1 all, 1 the leader's; 0 is taken for 1 [%(default)s]",
        type=kinds.acks,
        default=-1,
        metavar='N',
    ),
    Option(
        'producer-compression-type',
        'gzip, snappy, lz4 or zstd [none]',
        choices=('gzip', 'snappy', 'lz4', 'zstd'),
    ),
    Option(
        'producer-partitioner',
        'Function of (key, all, available partitions), or package.module:NAME [murmur2]',
        takes=(object,),
        metavar='NAME',
    ),
    _seconds('producer-request-timeout', "Limit of a request, and of a record's wait [5]"),
    Option('producer-api-version', 'Without effect: it is agreed on with the broker'),
)

CONSUMER_OPTIONS = (
    _count(
        'consumer-max-fetch-size', 'Bytes of a partition in one answer [%(default)s]', 4_194_304
    ),
    Option(
        'consumer-auto-offset-reset',
        'Where reading begins when nothing is committed [%(default)s]',
        default='earliest',
        choices=('earliest', 'latest'),
    ),
    Option(
        'on-offset-lost',
        'Committed, and no longer in the log: fail, or go on at earliest, latest [%(default)s]',
        default='fail',
        choices=('fail', 'earliest', 'latest'),
    ),
    _seconds('consumer-connections-max-idle', 'Close connections idle for so long [540]'),
    _seconds('consumer-request-timeout', 'Limit of a request [--broker-request-timeout]'),
    Option('consumer-api-version', 'Without effect: it is agreed on with the broker'),
    _seconds('consumer-session-timeout', 'As --broker-session-timeout, and before it'),
    _seconds('consumer-heartbeat-interval', 'As --broker-heartbeat, and before it'),
    _count('consumer-max-poll-records', 'Records in one fetch [2000]'),
    _seconds('consumer-max-poll-interval', 'A worker may be silent for so long [300]'),
    _seconds('consumer-rebalance-timeout', 'The group waits so long for its members [15]'),
    Option('consumer-group-instance-id', 'Makes a static member of the group: a name of its own'),
)

REPLY_OPTIONS = (
    Option('reply-to', "Topic of answers [one of this worker's own]"),
    Option('reply-to-prefix', 'What the name of that topic begins with [ID-]'),
    _seconds('reply-expires', 'Wait so long for an answer [%(default)s]', 120.0),
    Option('reply-create-topic', 'Make the topic of --reply-to', switch=True),
)

TABLE_OPTIONS = (
    Option(
        'store',
        'Where tables are kept: memory:// sqlite:// rocksdb:// [memory:// on memory, else sqlite://]',
        type=kinds.store_url,
        metavar='URL',
    ),
    Option('datadir', "Directory of this application's state [%(default)s]", default='data'),
    Option('tabledir', 'Directory of tables, below --datadir unless it is absolute'),
    Option(
        'store-check-exists',
        'Without effect: a store is always asked before a default is made',
        switch=True,
        default=True,
    ),
    _seconds(
        'table-cleanup-interval',
        'Seconds between looks for stores that are not used any more [30]',
        30.0,
    ),
    _count('table-key-index-size', 'Without effect: owners of keys are computed', 1000),
    _count(
        'table-standby-replicas', 'Copies of a table at other workers [1]', 1, kinds.count_or_none
    ),
    Option('canonical-url', 'Where other workers reach this one', metavar='URL'),
)

OPTIONS = (
    *BROKER_OPTIONS,
    *TOPIC_OPTIONS,
    *STREAM_OPTIONS,
    *PRODUCER_OPTIONS,
    *CONSUMER_OPTIONS,
    *REPLY_OPTIONS,
    *TABLE_OPTIONS,
)
"""Every option of streams; those of `StreamApp` alone are beside it."""

WITHOUT_EFFECT: Mapping[str, str] = {
    'broker_api_version': 'the version is agreed on with the broker',
    'producer_api_version': 'the version is agreed on with the broker',
    'consumer_api_version': 'the version is agreed on with the broker',
    'stream_ack_cancelled_tasks': 'an event that was cut off is handled again',
    'store_check_exists': 'a store is always asked before a default is made',
    'table_key_index_size': 'owners of keys are computed, not remembered',
}
"""Options that Faust has and that mean nothing here, each with the reason."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every option of streams to `parser`."""
    declaration.add_options(parser, BROKER_OPTIONS, 'streams: broker')
    declaration.add_options(parser, TOPIC_OPTIONS, 'streams: topics')
    declaration.add_options(parser, STREAM_OPTIONS, 'streams: agents')
    declaration.add_options(parser, PRODUCER_OPTIONS, 'streams: sending')
    declaration.add_options(parser, CONSUMER_OPTIONS, 'streams: reading')
    declaration.add_options(parser, REPLY_OPTIONS, 'streams: answers')
    declaration.add_options(parser, TABLE_OPTIONS, 'streams: tables')
