"""GET /_service/status of a furnished application."""

import asyncio

from aiohttp import web

from bench.load import measure
from bench.meter import arguments
from service_scaffold import events, service

_, total, _ = arguments()


async def main() -> None:
    app = service.create_app('bench', raw_args=['--log-level', 'error'])
    events.setup(app)
    service.furnish(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, '127.0.0.1', 0)
    await site.start()
    await measure(runner.addresses[0][1], '/_service/status', total)
    await runner.cleanup()


asyncio.run(main())
