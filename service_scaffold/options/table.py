"""The options that every service has."""

from __future__ import annotations

import argparse
import socket

from service_scaffold.options import declaration, values
from service_scaffold.options.declaration import Option

NAME = Option(
    'name',
    'Name of the service; its paths begin with it',
    flags=('-n',),
    type=values.service_name,
)
"""Added by `create_parser`, which knows its default."""

SERVICE_OPTIONS = (
    Option(
        'host',
        'Address to listen on [%(default)s]',
        flags=('-H',),
        type=values.host,
        default='0.0.0.0',
    ),
    Option(
        'port',
        'Port to listen on; 0 is any free port [%(default)s]',
        flags=('-p',),
        type=values.port,
        default=5000,
    ),
    Option(
        'instance',
        'Name of this instance: unique, and the same after a restart [%(default)s]',
        type=values.service_name,
        default_factory=socket.gethostname,
    ),
    Option(
        'info',
        'Text about this build; logged at start',
        default='',
    ),
    Option(
        'root-path',
        'Path prefix that a proxy strips; changes generated URLs, never matching',
        type=values.root_path,
        default='',
        metavar='PATH',
    ),
    Option(
        'trusted-proxies',
        'Networks whose forwarded headers are believed, comma-separated [%(default)s]',
        type=values.networks,
        default='127.0.0.0/8,::1/128',
        metavar='NETWORKS',
    ),
    Option(
        'cors-origins',
        'Origins that browsers may call from, comma-separated [%(default)s]',
        type=values.origins,
        default='*',
        metavar='ORIGINS',
    ),
    Option(
        'max-body-mib',
        'Largest request body in MiB [%(default)s]',
        type=values.mebibytes,
        default=1.0,
        metavar='MIB',
    ),
    Option(
        'shutdown-timeout-s',
        'Seconds for everything from the signal (after --pre-stop-s) to the exit [%(default)s]',
        type=values.seconds,
        default=20.0,
        metavar='S',
    ),
    Option(
        'pre-stop-s',
        'Seconds to serve on, not ready, before stopping [%(default)s]',
        type=values.seconds,
        default=0.0,
        metavar='S',
    ),
    Option(
        'print-config',
        'Print each value with its source, secrets masked, and exit',
        switch=True,
    ),
)

LOG_OPTIONS = (
    Option('output', 'Log to this file too; a new one each day, 7 are kept', flags=('-o',)),
    Option('debug', 'Log everything; error pages and debug endpoints tell more', switch=True),
    Option(
        'log-level',
        'Least level that is logged [%(default)s]',
        type=values.level,
        default='info',
        choices=('debug', 'info', 'warning', 'error', 'critical'),
    ),
    Option(
        'log-format',
        'Log lines as text, or one JSON object each [%(default)s]',
        type=values.level,
        default='text',
        choices=('text', 'json'),
    ),
)

EVENT_BUS_OPTIONS = (
    Option(
        'eventbus-url',
        'Where the broker is: memory:// amqp:// amqps:// kafka:// kafka+ssl:// mqtt:// or mqtts://'
        ' [%(default)s]',
        type=values.event_bus_url,
        default='memory://',
        metavar='URL',
    ),
    Option(
        'eventbus-host',
        'Shorthand for --eventbus-url amqp://HOST:5672',
        type=values.host,
        metavar='HOST',
    ),
    Option(
        'eventbus-port',
        'Shorthand for --eventbus-url amqp://localhost:PORT',
        type=values.broker_port,
        metavar='PORT',
    ),
    Option(
        'eventbus-required',
        'Whether a missing bus holds readiness (ready), ends the start (start), or neither (no)'
        ' [%(default)s]',
        default='ready',
        choices=('no', 'ready', 'start'),
    ),
    Option(
        'eventbus-declare',
        'Create exchanges, queues and topics, or only use what exists [%(default)s]',
        default='create',
        choices=('create', 'passive'),
    ),
    Option(
        'eventbus-ca',
        'Certificates that the broker is verified with [those of the system]',
        type=values.existing_file,
        metavar='FILE',
    ),
    Option(
        'eventbus-cert',
        'Client certificate for the broker',
        type=values.existing_file,
        metavar='FILE',
    ),
    Option(
        'eventbus-key',
        'Key of the client certificate',
        type=values.existing_file,
        metavar='FILE',
    ),
    Option(
        'publish-timeout-s',
        'Seconds in which a publish is confirmed or raises [%(default)s]',
        type=values.limit_s,
        default=5.0,
        metavar='S',
    ),
    Option(
        'connect-timeout-s',
        'Seconds for one attempt to connect [%(default)s]',
        type=values.limit_s,
        default=10.0,
        metavar='S',
    ),
    Option(
        'mqtt-session-expiry-s',
        'Seconds for which an MQTT broker keeps what a group has missed [%(default)s]',
        type=values.expiry,
        default=86400,
        metavar='S',
    ),
)

ASSET_OPTIONS = (
    Option(
        'asset-lease-s',
        'Seconds of silence after which the owner of an asset counts as lost [%(default)s]',
        type=values.lease_s,
        default=15.0,
        metavar='S',
    ),
    Option(
        'asset-retention-s',
        'Seconds for which RabbitMQ keeps the values of an asset without an owner [%(default)s]',
        type=values.retention_s,
        default=604_800,
        metavar='S',
    ),
)

OPTIONS = (NAME, *SERVICE_OPTIONS, *LOG_OPTIONS, *EVENT_BUS_OPTIONS, *ASSET_OPTIONS)
"""Every option that a service has without features of its own (and besides `-c/--config`)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every option of a service to `parser`."""
    declaration.add_options(parser, SERVICE_OPTIONS, 'service')
    declaration.add_options(parser, LOG_OPTIONS, 'logging')
    declaration.add_options(parser, EVENT_BUS_OPTIONS, 'event bus')
    declaration.add_options(parser, ASSET_OPTIONS, 'assets')
