"""The four steps of a service: `create_parser`, `create_app`, `furnish`, `run`.

app = service.create_app('greenhouse')
greenhouse.setup(app)
service.furnish(app)
service.run(app)
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, cast, overload

from aiohttp import web

from service_scaffold import errors, features, logs, options, server, stopping, storage
from service_scaffold.http import apidoc, cors, forwarded, front, health, validation, wsgi
from service_scaffold.http import prefix as prefixes
from service_scaffold.observe import metrics
from service_scaffold.options import streams as stream_options

LOGGER = logging.getLogger(__name__)

App = TypeVar('App', bound=web.Application)

CONFIG = options.CONFIG
"""`app[CONFIG]` is the dict of options; `app['config']` is the same."""


def create_parser(default_name: str | None = None) -> options.OptionParser:
    """Return a parser with every option of a service; add your own with `add_argument`.

    Args:
        default_name: Default of `--name`; without one, `--name` is required.
    """
    parser = options.create_parser(default_name)
    stream_options.add_arguments(parser)
    storage.add_arguments(parser)
    wsgi.add_arguments(parser)
    return parser


def create_app(
    default_name: str | None = None,
    parser: options.OptionParser | None = None,
    raw_args: Sequence[str] | None = None,
) -> web.Application:
    """Read the options, set up logging, and return an application without sockets and tasks.

    Args:
        default_name: Name of the service, unless an option says otherwise.
        parser: Made by `create_parser`; needed for options of your own.
        raw_args: Arguments, default those of the process.

    Raises:
        AssertionError: Neither `default_name` nor `parser` was given.
        SystemExit: With status 2 after a usage error, 0 after `--help` or `--print-config`.
    """
    if parser is None:
        if not default_name:
            raise errors.ConfigError('create_app needs a default_name or a parser')
        parser = create_parser(default_name)
    elif default_name and parser.get_default('name') is None:
        options.apply_keywords(parser, {'name': default_name})
    config = options.parse(parser, raw_args)
    try:
        logs.init_logging(config, {key for key in config if parser.is_secret(key)})
    except errors.ConfigError as error:
        parser.error(str(error))
    return make_app(config)


@overload
def make_app(config: dict[str, Any]) -> web.Application: ...
@overload
def make_app(config: dict[str, Any], kind: type[App]) -> App: ...
def make_app(
    config: dict[str, Any], kind: type[web.Application] = web.Application
) -> web.Application:
    """Return an application of options that were read before; nothing else is done.

    `create_app` does the reading, and sets up logging.

    Args:
        kind: What is made.
    """
    # Rounded up: 0 would be no limit.
    app = kind(client_max_size=math.ceil(cast(float, config['max_body_mib']) * 2**20))
    options.store_config(app, config)
    # First of all, so that on_startup handlers appended later find the features started.
    features.get_lifecycle(app)
    return app


def furnish(app: web.Application, prefix: str | None = None) -> None:
    """Give `app` all that a service has besides its own work, and move it under its prefix.

    Resources (sub-apps and static files, too) move to `{prefix}/…`. Added are health, metrics and
    the API page; CORS headers, forwarded headers, problems as errors, and validation of requests.
    Call it after everything else was set up: what is added later has no prefix.

    Args:
        prefix: Default `/{name}`; '' leaves paths as they are.

    Raises:
        RuntimeError: It was called before.
        ValueError: `prefix` is not a path prefix.
    """
    if prefixes.PREFIX in app:
        raise RuntimeError('furnish(app) was called before; a service is furnished once')
    config = options.get_config(app)
    name = str(config['name'])
    path = prefixes.normalise(f'/{name}' if prefix is None else prefix)
    app[prefixes.PREFIX] = path
    prefixes.apply(app.router, path)
    measured = metrics.setup(app)
    front.setup(
        app,
        cors.Cors(cast('list[str]', config['cors_origins']), cors.pages_of(app)),
        forwarded.Forwarded(
            cast('list[str]', config['trusted_proxies']), root_path=str(config['root_path'])
        ),
        measured.http.observe,
        debug=bool(config['debug']),
    )
    validation.setup(app)
    health.setup(app, path)
    health.add_route(
        app,
        path,
        'metrics',
        metrics.scrape,
        summary='Metrics for Prometheus',
        produces=['text/plain'],
    )
    apidoc.setup(app, prefix=path, title=name, version=str(config['info'] or '0'))
    _log_inventory(app, config)


def run(app: web.Application, listen_http: bool = True) -> None:
    """Run `app` until SIGTERM or SIGINT, and stop it in order.

    The port is bound first and answers 503 while features start. On a signal the service says that
    it is not ready, serves on for `--pre-stop-s`, stops taking in work, finishes what runs, closes
    the port, lets requests finish, and shuts features down, all within `--shutdown-timeout-s`. A
    second signal exits at once.

    Args:
        listen_http: False serves no HTTP at all; features run as usual.

    Returns:
        When all has stopped as it should: the exit status of the program is 0.

    Raises:
        SystemExit: With status 1 after a failure: the port is taken, a feature did not start, a
            stop hook raised or hung, or work did not finish in time.
    """
    watchdog = stopping.Watchdog()
    try:
        status = asyncio.run(server.serve(app, listen_http=listen_http, watchdog=watchdog))
    finally:
        watchdog.release()
    if status:
        sys.exit(status)


def _log_inventory(app: web.Application, config: dict[str, object]) -> None:
    LOGGER.info('Service %s%s', config['name'], f': {config["info"]}' if config['info'] else '')
    for line in _endpoints(app):
        LOGGER.info('Endpoint %s', line)
    for feature in features.get_lifecycle(app).features:
        LOGGER.info('Feature %s', type(feature).__name__)


def _endpoints(app: web.Application) -> Iterable[str]:
    for route in app.router.routes():
        if route.method != 'HEAD' and route.resource is not None:
            yield f'{route.method} {route.resource.canonical}'
