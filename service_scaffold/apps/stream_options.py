"""The options of `StreamApp` beside those of every service."""

from __future__ import annotations

import argparse
import json
import types
from collections.abc import Mapping
from datetime import tzinfo

from service_scaffold.options import values
from service_scaffold.options.declaration import Option
from service_scaffold.options.stream_values import count
from service_scaffold.streams.cron import zone_of

_FUNCTIONS = (types.FunctionType, types.MethodType, type)


def json_object(text: str) -> dict[str, object]:
    """A JSON object."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'not JSON: {error}') from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('not a JSON object')
    return value


def log_level(text: str) -> str:
    """A log level, by name or number."""
    known = {'10': 'debug', '20': 'info', '30': 'warning', '40': 'error', '50': 'critical'}
    level = known.get(text, text.lower())
    if level == 'warn':
        level = 'warning'
    if level not in known.values():
        raise argparse.ArgumentTypeError(f'not a log level: {text!r}')
    return level


def zone(text: str) -> str:
    """The name of a time zone."""
    zone_of(text)
    return text


def web_transport(text: str) -> str:
    """`tcp:`, `tcp://HOST:PORT` or `unix:///PATH`."""
    kind, separator, rest = text.partition('://')
    if text.rstrip(':') == 'tcp' or (kind == 'unix' and rest.startswith('/')):
        return text
    if kind == 'tcp' and separator:
        host, _, port = rest.rpartition(':')
        values.host(host)
        values.port(port)
        return text
    raise argparse.ArgumentTypeError(
        f'not a transport: {text!r}; tcp:, tcp://HOST:PORT or unix:///PATH'
    )


IDENTITY_OPTIONS = (
    Option(
        'version',
        'Version of the application; another one begins anew, beside the old [%(default)s]',
        type=count,
        default=1,
        metavar='N',
    ),
    Option(
        'id-format',
        'How an id is made of {id} and {self.version}, from version 2 on',
        default='{id}-{self.version}',
        metavar='FORMAT',
    ),
    Option(
        'autodiscover',
        'Modules to import before the start, comma-separated; true is --origin alone [true]',
        default=True,
        takes=(bool, list, tuple, *_FUNCTIONS),
        metavar='MODULES',
    ),
    Option('origin', 'Module that declares the application', metavar='MODULE'),
    Option(
        'timezone',
        'Zone of crontabs that name none [UTC]',
        type=zone,
        takes=(tzinfo,),
        metavar='ZONE',
    ),
)

WEB_OPTIONS = (
    Option(
        'web-enabled',
        'Serve pages and status over HTTP [yes]',
        switch=True,
        default=True,
    ),
    Option('web-host', 'Name of this host for others [where it listens]', type=values.host),
    Option(
        'web-transport',
        'tcp:, tcp://HOST:PORT, or unix:///PATH to listen there instead [%(default)s]',
        type=web_transport,
        default='tcp:',
        metavar='URL',
    ),
    Option(
        'web-cors-options',
        'JSON object whose keys are the origins that browsers may call from',
        type=json_object,
        takes=(dict,),
        metavar='JSON',
    ),
    Option('web', 'Without effect: aiohttp serves', metavar='URL'),
    Option('web-in-thread', 'Without effect: one event loop serves all', switch=True),
    Option('cache', 'Without effect: pages are not cached', metavar='URL'),
)

LOG_OPTIONS = (
    Option(
        'logging-config',
        'JSON object for logging.config, or with level, format and output alone',
        type=json_object,
        takes=(dict,),
        metavar='JSON',
    ),
    Option(
        'loghandlers',
        'Handlers that log as well: package.module:NAME, comma-separated',
        takes=(list, tuple),
        metavar='NAMES',
    ),
    Option('quiet', 'Log warnings and worse only', switch=True),
    Option('no-color', 'Commands print without colour', switch=True),
    Option(
        'worker-redirect-stdouts',
        'Log what is printed',
        switch=True,
        negatable=True,
    ),
    Option(
        'worker-redirect-stdouts-level',
        'Level of what was printed [warning]',
        type=log_level,
        metavar='LEVEL',
    ),
    Option(
        'blocking-timeout',
        'Warn, with the line of code, when the event loop is blocked for so long [%(default)s]',
        type=values.limit_s,
        default=10.0,
        metavar='S',
    ),
)

OPTIONS = (*IDENTITY_OPTIONS, *WEB_OPTIONS, *LOG_OPTIONS)

WITHOUT_EFFECT: Mapping[str, str] = {
    'web': 'aiohttp serves',
    'web_in_thread': 'one event loop serves all',
    'cache': 'pages are not cached; what they show is in memory',
}
"""Options that Faust has and that mean nothing here, each with the reason."""
