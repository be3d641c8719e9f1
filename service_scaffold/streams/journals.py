"""The log that streams stand on, by its URL."""

from __future__ import annotations

from service_scaffold import errors
from service_scaffold.journal.base import Journal
from service_scaffold.journal.tuning import Tuning
from service_scaffold.transports.base import Settings

SCHEMES = ('kafka', 'kafka+ssl', 'memory')


def open_journal(settings: Settings, tuning: Tuning | None = None) -> Journal:
    """Return the journal of a URL, not yet connected.

    Args:
        tuning: How a Kafka client behaves.

    Raises:
        ConfigError: There is no log behind a URL of that kind.
    """
    address = settings.address
    if address.scheme in ('kafka', 'kafka+ssl'):
        from service_scaffold.transports.kafka import open_journal as open_kafka

        return open_kafka(settings, tuning)
    if address.scheme == 'memory':
        from service_scaffold.journal.memory import MemoryJournal
        from service_scaffold.journal.memory_broker import find_broker

        broker = find_broker(address.host, scope=settings.scope, clock=settings.clock)
        partitioner = (tuning or Tuning()).partitioner
        return MemoryJournal(broker, f'{settings.name}.{settings.role}', partitioner)
    raise errors.ConfigError(
        f'Streams need a log: {address} is none; set --streams-url to kafka://… or memory://'
    )
