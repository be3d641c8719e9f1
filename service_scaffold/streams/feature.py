"""Streams for any service: `setup(app)`, then declare agents on `get_streams(app)`."""

from __future__ import annotations

import argparse

from aiohttp import web

from service_scaffold import features, options, scheduler
from service_scaffold.journal.base import Journal
from service_scaffold.options import streams as table
from service_scaffold.options.stream_values import resolve
from service_scaffold.streams import assignment, graph_page
from service_scaffold.streams.configured import address_of, settings_of, tuning_of, warn
from service_scaffold.streams.journals import open_journal
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.worker import Worker
from service_scaffold.streams.workplace import Workplace
from service_scaffold.transports.base import Settings


def setup(
    app: web.Application,
    settings: StreamSettings | None = None,
    topology: Topology | None = None,
) -> None:
    """Give `app` a topology to declare agents on, and a worker that runs it; idempotent.

    Args:
        settings: Default those of the options.
        topology: One that there is already; its settings are final when the application starts.

    Raises:
        ConfigError: The URL is of a broker that has no log.
    """
    if features.has(app, Topology):
        return
    scheduler.setup(app)
    config = options.get_config(app)
    if topology is None:
        topology = Topology(settings or settings_of(config))
        address_of(config)
        warn(config, table.OPTIONS, table.WITHOUT_EFFECT)
    topology.pages.app = app
    declared = topology
    worker = Worker(
        app,
        declared,
        lambda: journal_of(app),
        lambda: Workplace(declared.settings),
    )
    features.add(app, declared, Topology)
    features.add(app, worker)
    assignment.add_route(app)
    graph_page.add_route(app)


def get_streams(app: web.Application | web.Request) -> Topology:
    """Return what agents, topics and tables are declared on.

    Raises:
        UnknownFeature: (a KeyError) `streams.setup(app)` was not called.
    """
    return features.get(app, Topology)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every option of streams to `parser`; `service.create_parser` has done that."""
    table.add_arguments(parser)


def journal_of(app: web.Application) -> Journal:
    """Return a connection to the log that the options name, not yet connected.

    Raises:
        ConfigError: There is no log behind the URL.
    """
    return open_journal(connection_of(app), tuning_of(options.get_config(app)))


def connection_of(app: web.Application) -> Settings:
    """Return what the options say about the connection.

    Raises:
        ConfigError: There is no log behind the URL.
    """
    config = options.get_config(app)
    return Settings(
        address=address_of(config),
        name=str(config['name']),
        instance=str(config['instance']),
        role='streams',
        connect_timeout_s=config['connect_timeout_s'],
        publish_timeout_s=config['publish_timeout_s'],
        declare=config['eventbus_declare'],
        ca=config['eventbus_ca'],
        cert=config['eventbus_cert'],
        key=config['eventbus_key'],
        ssl_context=resolve('ssl_context', config.get('ssl_context')),
        session_expiry_s=config['mqtt_session_expiry_s'],
        clock=features.get_clock(app),
        scope=app,
    )
