"""What the options say about a connection."""

from __future__ import annotations

from aiohttp import web

from service_scaffold import features, options
from service_scaffold.transports.address import Address
from service_scaffold.transports.base import Settings


def transport_settings(app: web.Application, role: str, url: str | None = None) -> Settings:
    """Return the settings of one connection; `url` None means `--eventbus-url`.

    Raises:
        ConfigError: The URL cannot be read.
    """
    config = options.get_config(app)
    return Settings(
        address=Address.parse(url or config['eventbus_url']),
        name=config['name'],
        instance=config['instance'],
        role=role,
        connect_timeout_s=config['connect_timeout_s'],
        publish_timeout_s=config['publish_timeout_s'],
        declare=config['eventbus_declare'],
        ca=config['eventbus_ca'],
        cert=config['eventbus_cert'],
        key=config['eventbus_key'],
        session_expiry_s=config['mqtt_session_expiry_s'],
        lease_s=config['asset_lease_s'],
        retention_s=config['asset_retention_s'],
        clock=features.get_clock(app),
        scope=app,
    )
