"""A broker that never comes to the end of what it stores."""

from __future__ import annotations

import pytest

from service_scaffold import assets, service
from service_scaffold.testing import running
from test.transports.mqtt_peer import Peer


async def test_a_service_that_does_not_know_the_values_says_so_and_why() -> None:
    """The connection is up all the time, or again at once."""
    async with Peer() as peer:
        arguments = ['--eventbus-url', peer.url, '--connect-timeout-s', '0.5']
        app = service.create_app('watcher', raw_args=arguments)
        assets.setup(app)
        async with running(app, active_s=0):
            assert assets.get_assets(app).health().ok
            with pytest.raises(TimeoutError, match='not the end of what is stored'):
                await assets.open(app, 'mill-1', timeout_s=1.7)
            health = assets.get_assets(app).health()
            assert not health.ok
            assert 'not the end of what is stored' in str(health.detail['error'])
