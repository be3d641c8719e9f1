"""Transports: one module a broker, found by the scheme of the event bus URL."""

from __future__ import annotations

import importlib

from service_scaffold import errors
from service_scaffold.transports.base import Settings, Transport

__all__ = ['SCHEMES', 'find', 'open_transport', 'register']

SCHEMES: dict[str, str] = {
    'memory': 'service_scaffold.transports.memory:MemoryTransport',
    'amqp': 'service_scaffold.transports.amqp:AmqpTransport',
    'amqps': 'service_scaffold.transports.amqp:AmqpTransport',
    'kafka': 'service_scaffold.transports.kafka:KafkaTransport',
    'kafka+ssl': 'service_scaffold.transports.kafka:KafkaTransport',
    'mqtt': 'service_scaffold.transports.mqtt:MqttTransport',
    'mqtts': 'service_scaffold.transports.mqtt:MqttTransport',
}
"""Scheme to `module:class`, imported on use."""

_EXTRAS = {'aiomqtt': 'mqtt', 'paho': 'mqtt'}


def register(scheme: str, target: str) -> None:
    """Make `scheme://` URLs open the transport class at `module:class`."""
    SCHEMES[scheme] = target


def open_transport(settings: Settings) -> Transport:
    """Return a new, not yet connected transport for `settings.address`.

    Raises:
        ConfigError: The scheme is unknown, or its package is not installed.
    """
    return find(settings.address.scheme)(settings)


def find(scheme: str) -> type[Transport]:
    """Return the transport class of a scheme, imported now if it was not before.

    Raises:
        ConfigError: The scheme is unknown, or its package is not installed.
    """
    try:
        module, _, name = SCHEMES[scheme].partition(':')
    except KeyError:
        known = ', '.join(sorted(SCHEMES))
        raise errors.ConfigError(
            f'No transport for event bus URLs with the scheme {scheme!r}; known are: {known}'
        ) from None
    try:
        transport: type[Transport] = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or '').partition('.')[0])
        if extra is None:
            raise
        raise errors.ConfigError(
            f'{scheme}:// needs the package {error.name!r}: pip install service-scaffold[{extra}]'
        ) from error
    return transport
