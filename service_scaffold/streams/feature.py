"""Streams for any service: `setup(app)`, then declare agents on `get_streams(app)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiohttp import web

from service_scaffold import errors, features, options, scheduler
from service_scaffold.streams.journals import SCHEMES, open_journal
from service_scaffold.streams.settings import StreamSettings
from service_scaffold.streams.topology import Topology
from service_scaffold.streams.worker import Worker
from service_scaffold.streams.workplace import Workplace
from service_scaffold.transports.address import Address
from service_scaffold.transports.base import Settings


def setup(app: web.Application, settings: StreamSettings | None = None) -> None:
    """Give `app` a topology to declare agents on, and a worker that runs it; idempotent.

    Args:
        settings: Default those of the options.

    Raises:
        ConfigError: The URL is of a broker that has no log.
    """
    if features.has(app, Topology):
        return
    scheduler.setup(app)
    config = options.get_config(app)
    chosen = settings or settings_of(config)
    topology = Topology(chosen)
    url = _url(config)
    connection = _connection(app, config, url)
    worker = Worker(
        app,
        topology,
        lambda: open_journal(connection),
        lambda: Workplace(chosen),
    )
    features.add(app, topology)
    features.add(app, worker)


def get_streams(app: web.Application | web.Request) -> Topology:
    """Return what agents, topics and tables are declared on.

    Raises:
        UnknownFeature: (a KeyError) `streams.setup(app)` was not called.
    """
    return features.get(app, Topology)


def settings_of(config: dict[str, Any]) -> StreamSettings:
    """Return what the options say."""
    return StreamSettings(
        id=str(config['name']), directory=Path(str(config.get('streams_datadir') or 'data'))
    )


def _url(config: dict[str, Any]) -> Address:
    given = config.get('streams_url')
    address = Address.parse(given or config['eventbus_url'])
    if address.scheme not in SCHEMES:
        source = '--streams-url' if given else '--eventbus-url'
        raise errors.ConfigError(
            f'Streams need a log, and {source} is {address}; set --streams-url to kafka://… or'
            ' memory://'
        )
    return address


def _connection(app: web.Application, config: dict[str, Any], address: Address) -> Settings:
    return Settings(
        address=address,
        name=str(config['name']),
        instance=str(config['instance']),
        role='streams',
        connect_timeout_s=config['connect_timeout_s'],
        publish_timeout_s=config['publish_timeout_s'],
        declare=config['eventbus_declare'],
        ca=config['eventbus_ca'],
        cert=config['eventbus_cert'],
        key=config['eventbus_key'],
        session_expiry_s=config['mqtt_session_expiry_s'],
        clock=features.get_clock(app),
        scope=app,
    )
