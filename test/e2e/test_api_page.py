"""The API page in a real browser."""

import asyncio
import shutil

import pytest
from aiohttp import web

from service_scaffold.http import apidoc
from test.http.serving import serving

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('chrome')

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason='no chromium on this machine: THE API PAGE WAS NOT SEEN IN A BROWSER'
)


@apidoc.docs(tags=['tanks'], summary='Empty the tank of the greenhouse')
async def empty(request):
    return web.Response()


async def dump(url, tmp_path):
    """Return the page as the browser shows it, with every request it has made for it."""
    log = tmp_path / 'net.json'
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
        # Whatever is not on this machine does not resolve: the page must do without it.
        '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
        f'--user-data-dir={tmp_path / "profile"}',
        f'--log-net-log={log}',
        '--virtual-time-budget=10000',
        '--dump-dom',
        url,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        page, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return page.decode(), log.read_text()


async def test_the_page_shows_every_operation(tmp_path):
    """It is drawn from our own files: nothing else is asked for."""

    asked = []

    @web.middleware
    async def watch(request, handler):
        asked.append(request.path)
        return await handler(request)

    def watched(app):
        app.router.add_post('/tanks/{tank}/empty', empty)
        app.middlewares.append(watch)

    async with serving(routes=watched) as client:
        page, log = await dump(str(client.make_url('/plant/api/doc')), tmp_path)

    assert 'Empty the tank of the greenhouse' in page
    assert 'Whether work may be sent here' in page
    assert '/plant/api/doc/swagger.json' in asked
    assert '/plant/api/doc/static/swagger-ui-bundle.js' in asked
    for foreign in ('validator.swagger.io', 'fonts.googleapis', 'cdn.', 'unpkg', 'jsdelivr'):
        assert foreign not in log
