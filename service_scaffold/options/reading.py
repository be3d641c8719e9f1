"""From arguments, environment and file to the configuration of an application."""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from service_scaffold.options import secrets, table
from service_scaffold.options.parser import OptionParser

CONFIG: web.AppKey[dict[str, Any]] = web.AppKey('config', dict)
"""Where the configuration stands in an application; `app['config']` is the same dict."""


def parse(
    parser: argparse.ArgumentParser,
    raw_args: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the configuration: each option's key (`eventbus_url`) and its value.

    A usage error ends the process with status 2, `--help` and `--print-config` with 0.

    Args:
        raw_args: Arguments without the program's name; None means those of the process.
        environ: The environment, of which a copy is read; None means that of the process.

    Raises:
        TypeError: `parser` was not made by `create_parser`.
    """
    if not isinstance(parser, OptionParser):
        raise TypeError(f'{parser!r} was not made by create_parser(); add your arguments to that')
    variables = dict(os.environ if environ is None else environ)
    config: dict[str, Any] = vars(parser.parse_args(raw_args, env_vars=variables))
    sources = parser.sources()
    _resolve_event_bus(parser, config, sources)
    if config.get('eventbus_key') and not config.get('eventbus_cert'):
        parser.error('--eventbus-key needs --eventbus-cert')
    if config.get('print_config'):
        print(describe(parser, config, sources))
        parser.exit(0)
    return config


def store_config(app: web.Application, config: dict[str, Any]) -> None:
    """Make `config` the configuration of `app`, under `CONFIG` and under `'config'`."""
    app[CONFIG] = config
    with warnings.catch_warnings():
        # The plain key is part of our contract; users must not be warned of it.
        warnings.simplefilter('ignore', web.NotAppKeyWarning)
        app['config'] = config


def get_config(app_or_request: web.Application | web.Request) -> dict[str, Any]:
    """Return the configuration of an application, or of the one that serves a request.

    Raises:
        KeyError: The application was not made by `create_app`.
    """
    app = (
        app_or_request.match_info.apps[0]
        if isinstance(app_or_request, web.Request)
        else app_or_request
    )
    return app[CONFIG]


def describe(parser: OptionParser, config: Mapping[str, object], sources: Mapping[str, str]) -> str:
    """Return each value with its source, one a line in the form of a TOML file, secrets masked."""
    lines = []
    for key, value in config.items():
        if key == 'print_config':
            continue
        if value is None:
            shown = f'# {key.replace("_", "-")} is not set'
        elif parser.is_secret(key) and value != '':
            shown = f'{key.replace("_", "-")} = "{secrets.MASK}"'
        else:
            shown_value = secrets.mask_url(value) if isinstance(value, str) else value
            text = json.dumps(shown_value, default=str, ensure_ascii=False)
            shown = f'{key.replace("_", "-")} = {secrets.mask_text(text)}'
        lines.append(f'{shown:<50}  # {sources.get(key, "default")}')
    return '\n'.join(lines)


def _resolve_event_bus(
    parser: OptionParser, config: dict[str, object], sources: dict[str, str]
) -> None:
    """Turn the shorthand `--eventbus-host` and `--eventbus-port` into a URL."""
    ranks: dict[str, int] = {
        key: _rank(parser, key, sources)
        for key in ('eventbus_url', 'eventbus_host', 'eventbus_port')
        if key in config
    }
    if len(ranks) < 3:
        return
    short = max(('eventbus_host', 'eventbus_port'), key=lambda key: ranks[key])
    if ranks[short] == 0 or ranks['eventbus_url'] > ranks[short]:
        return
    if ranks['eventbus_url'] == ranks[short]:
        flag = short.replace('_', '-')
        parser.error(
            f'--eventbus-url ({sources["eventbus_url"]}) and --{flag} ({sources[short]})'
            ' cannot be used together'
        )
    host, port = config['eventbus_host'] or 'localhost', config['eventbus_port'] or 5672
    config['eventbus_url'] = (
        f'amqp://[{host}]:{port}' if ':' in str(host) else (f'amqp://{host}:{port}')
    )
    sources['eventbus_url'] = sources[short]


def _rank(parser: OptionParser, key: str, sources: Mapping[str, str]) -> int:
    """0 for our default, 1 for a default set by the program, 2 for what the user gave."""
    if sources[key] != 'default':
        return 2
    ours = {option.key: option.default for option in table.OPTIONS}
    return int(parser.get_default(key) != ours[key])
