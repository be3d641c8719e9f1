"""From the configuration of an application to the settings of its streams."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from service_scaffold import errors
from service_scaffold.backoff import Backoff
from service_scaffold.journal.partitioner import Partitioner
from service_scaffold.journal.tuning import Tuning
from service_scaffold.options.declaration import Option
from service_scaffold.options.stream_values import resolve
from service_scaffold.streams.journals import SCHEMES
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.transports.address import Address

LOGGER = logging.getLogger(__name__)

DEFAULTS = StreamSettings('defaults')

Config = Mapping[str, Any]


def settings_of(config: Config, id: str | None = None) -> StreamSettings:
    """Return what the options say; those that a parser was not told of have their defaults.

    Args:
        id: Default the name of the service.

    Raises:
        ConfigError: Options contradict each other.
    """
    _check(config)
    get = config.get
    found: dict[str, Any] = {
        'guarantee': get('processing_guarantee'),
        'checkpoint_s': get('broker_commit_interval'),
        'checkpoint_every': get('broker_commit_every'),
        'topic_partitions': get('topic_partitions'),
        'topic_replicas': get('topic_replication_factor'),
        'may_declare': get('topic_allow_declare'),
        'key_serializer': get('key_serializer'),
        'value_serializer': get('value_serializer'),
        'buffer': get('stream_buffer_maxsize'),
        'fetch_limit': get('consumer_max_poll_records'),
        'publish_on_commit': get('stream_publish_on_commit'),
        'on_offset_lost': get('on_offset_lost'),
        'offset_reset': get('consumer_auto_offset_reset'),
        'max_pause_s': get('consumer_max_poll_interval'),
        'recovery_delay_s': get('stream_recovery_delay'),
        'backoff': _backoff(config),
        'stalled_s': get('broker_commit_livelock_soft_timeout'),
        'stuck_s': get('broker_commit_livelock_hard_timeout'),
        'processing_s': get('stream_processing_timeout'),
        'store': get('store') or _usual_store(config),
        'directory': _directory(config),
        'record_bytes': get('producer_max_request_size'),
        'cleanup_s': get('table_cleanup_interval'),
        'standbys': get('table_standby_replicas'),
        'partitioner': _partitioner(config),
        'ack_exceptions': get('stream_ack_exceptions'),
        'drain_s': None if get('stream_wait_empty', True) else 0.0,
        'reply_to': get('reply_to'),
        'reply_prefix': get('reply_to_prefix'),
        'reply_expires_s': get('reply_expires'),
        'reply_create': get('reply_create_topic'),
        'url': get('canonical_url'),
        'may_elect': not get('topic_disable_leader', False),
    }
    given = {name: value for name, value in found.items() if value is not None}
    return StreamSettings(id=id or str(config['name']), **given)


def _check(config: Config) -> None:
    get = config.get
    if get('processing_guarantee') == 'exactly_once' and get('producer_acks', -1) != -1:
        raise errors.ConfigError(
            'processing_guarantee=exactly_once needs producer_acks=-1: a transaction is confirmed'
            ' by all'
        )
    tuning = tuning_of(config)
    if tuning.beat_s >= tuning.session_s:
        raise errors.ConfigError(
            f'broker_heartbeat={tuning.beat_s:g} must be less than broker_session_timeout='
            f'{tuning.session_s:g}: a worker would be given up between two of them'
        )
    backoff = _backoff(config)
    if backoff.base_s > backoff.max_s:
        raise errors.ConfigError(
            f'broker_retry_delay={backoff.base_s:g} must not be more than broker_retry_max_delay='
            f'{backoff.max_s:g}'
        )


def address_of(config: Config) -> Address:
    """Return where the log is: `--streams-url`, else the event bus.

    Raises:
        ConfigError: There is no log; the message names the option to set.
    """
    given, source = config.get('streams_url'), '--streams-url'
    roles = {config[key] for key in ('broker_consumer', 'broker_producer') if config.get(key)}
    if len(roles) > 1 or (roles and given and roles != {given}):
        raise errors.ConfigError(
            '--broker-consumer and --broker-producer are different clusters, or another one than'
            ' --streams-url: inputs, outputs and offsets are committed together, in one cluster'
        )
    if not given and roles:
        (given,) = roles
    if not given:
        given, source = config['eventbus_url'], '--eventbus-url'
    address = Address.parse(given)
    if address.scheme not in SCHEMES:
        raise errors.ConfigError(
            f'Streams need a log, and {source} is {address}; set --streams-url to kafka://… or'
            ' memory://'
        )
    if credentials := config.get('broker_credentials'):
        user, _, password = credentials.partition(':')
        address = dataclasses.replace(address, user=user, password=password)
    return address


def tuning_of(config: Config) -> Tuning:
    """Return how a Kafka client shall behave."""
    get = config.get
    found: dict[str, Any] = {
        'session_s': get('consumer_session_timeout') or get('broker_session_timeout'),
        'heartbeat_s': get('consumer_heartbeat_interval') or get('broker_heartbeat'),
        'rebalance_s': get('consumer_rebalance_timeout'),
        'consumer_request_s': get('consumer_request_timeout') or get('broker_request_timeout'),
        'idle_s': get('consumer_connections_max_idle'),
        'fetch_bytes': get('consumer_max_fetch_size'),
        'instance_id': get('consumer_group_instance_id'),
        'linger_s': get('producer_linger'),
        'batch_bytes': get('producer_max_batch_size'),
        'request_bytes': get('producer_max_request_size'),
        'acks': None if get('producer_acks', -1) == -1 else 1,
        'compression': get('producer_compression_type'),
        'partitioner': _partitioner(config),
        'producer_request_s': get('producer_request_timeout') or get('broker_request_timeout'),
    }
    return Tuning(**{name: value for name, value in found.items() if value is not None})


def warn(config: Config, table: Iterable[Option], reasons: Mapping[str, str]) -> None:
    """Warn of options without effect that somebody has set.

    Args:
        reasons: Why they have none, by key.
    """
    for option in table:
        reason = reasons.get(option.key)
        usual = bool(option.default) if option.switch else option.default
        if reason is not None and config.get(option.key, usual) != usual:
            LOGGER.warning('Option %s has no effect: %s', option.key, reason)
    if config.get('producer_acks') == 0:
        LOGGER.warning('Option producer_acks=0 is taken for 1: nothing is lost silently')


def _partitioner(config: Config) -> Partitioner | None:
    """Return what chooses partitions, called as clients of Kafka in Python call it."""
    choose = resolve('producer_partitioner', config.get('producer_partitioner'))
    if choose is None:
        return None
    if not callable(choose):
        raise errors.ConfigError(f'option producer_partitioner: {choose!r} is no function')

    def chosen(key: bytes, count: int) -> int:
        numbers = list(range(count))
        return int(choose(key, numbers, numbers))

    return chosen


def _backoff(config: Config) -> Backoff:
    usual = Backoff()
    constant = config.get('broker_retry_backoff_type') == 'constant'
    return Backoff(
        base_s=config.get('broker_retry_delay', usual.base_s),
        factor=1.0 if constant else usual.factor,
        max_s=config.get('broker_retry_max_delay', usual.max_s),
    )


def _usual_store(config: Config) -> str:
    url = str(config.get('streams_url') or config['eventbus_url'])
    return 'sqlite://' if url.startswith('kafka') else 'memory://'


def _directory(config: Config) -> Path:
    data = Path(str(config.get('datadir') or DEFAULTS.directory))
    return data / str(config['tabledir']) if config.get('tabledir') else data
