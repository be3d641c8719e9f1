"""What assets show at `/_service/metrics`."""

from __future__ import annotations

from service_scaffold import assets, service
from service_scaffold.testing import running


async def test_what_is_known_owned_and_published_is_shown(unique: str) -> None:
    app = service.create_app('hall', raw_args=['--eventbus-url', f'memory://{unique}'])
    assets.setup(app)
    service.furnish(app)
    async with running(app) as hall:
        own = await assets.add(app, 'mill-1', attributes={'wear': 1})
        await own.set('wear', 2)
        async with hall.client.get('/_service/metrics') as response:
            lines = (await response.text()).splitlines()
    assert {
        'assets_known 1.0',
        'assets_available 1.0',
        'assets_owned 1.0',
        'asset_records_published_total 3.0',
        'asset_records_refused_total 0.0',
        'eventbus_connected{role="assets"} 1.0',
    } <= set(lines)
