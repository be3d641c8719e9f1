"""The same answer from a bare aiohttp application."""

import asyncio

from aiohttp import web

from bench.load import measure
from bench.meter import arguments

_, total, _ = arguments()


async def status(request: web.Request) -> web.Response:
    return web.json_response({'status': 'ok'})


async def main() -> None:
    app = web.Application()
    app.router.add_get('/_service/status', status)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, '127.0.0.1', 0)
    await site.start()
    await measure(runner.addresses[0][1], '/_service/status', total)
    await runner.cleanup()


asyncio.run(main())
